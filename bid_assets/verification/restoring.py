"""A store in which a lost or damaged version is made again in its place, if it comes out with the same content."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bid_assets.verification.damage import Finding, time_of
from bid_assets.version_store.manifest import Draft, Manifest
from bid_assets.version_store.replay import PinnedStore
from bid_assets.version_store.store import VersionStore, WriteResult, manifest_of


class RestoringStore(PinnedStore):
    """A pinned store that puts the version back in its place if it comes out with the same content.

    Where the manifest is lost, the inputs are those that HEADs name now. `replaceable`: other content becomes a new version.
    """

    def __init__(self, url: str, lost: Finding, *, replaceable: bool) -> None:
        super().__init__(url, lost.manifest or _manifest_by_name(lost))
        self.lost = lost
        self.replaceable = replaceable
        self.restored: WriteResult | None = None

    def heads(self, asset: str, partitions: Iterable[str]) -> dict[str, Manifest]:
        """The pinned versions, or those of now."""
        return super().heads(asset, partitions) if self.lost.manifest is not None else self.present.heads(asset, partitions)

    @property
    def present(self) -> VersionStore:
        """The store without anything pinned."""
        return VersionStore(self.url)

    def write(self, draft: Draft, write_file: Callable[[Path], None]) -> WriteResult:
        """Restore the version, or make a new one; other assets' drafts go nowhere."""
        written = super().write(draft, write_file)
        if (draft.asset, draft.partition) != (self.target.asset, self.target.partition):
            return written
        if draft.has_content(self.lost.content_hash):
            manifest = self.lost.manifest or manifest_of(draft, self.target.version, self.target.created_at)
            self.restored = WriteResult(self.restore(manifest, write_file), created=False)
        elif self.replaceable:
            self.restored = self.present.write(draft, write_file)
        return self.restored or written


def _manifest_by_name(lost: Finding) -> Manifest:
    """The little that is known of a version without a manifest."""
    assert lost.version is not None
    asset, partition, version = lost.version
    return manifest_of(Draft(asset, partition, "", lost.content_hash or ""), version, time_of(lost.version))
