"""A store as it looked to one version: its inputs are pinned, and what is written is only compared. For rebuilding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from bid_assets.version_store.manifest import Draft, Manifest
from bid_assets.version_store.store import VersionNotFoundError, VersionStore, WriteResult
from bid_assets.version_store.store_metadata import METADATA


class PinnedStore(VersionStore):
    """Reads exactly the inputs of `manifest`, whatever the heads are now; keeps the drafts of what would be written."""

    def __init__(self, url: str, manifest: Manifest) -> None:
        super().__init__(url)
        self.target = manifest
        self.drafts: list[Draft] = []

    def heads(self, asset: str, partitions: Iterable[str]) -> dict[str, Manifest]:
        """The pinned versions; windows that the version did not use are absent. Raises `VersionNotFoundError`."""
        pinned = {ref.partition: ref for ref in self.target.inputs if ref.asset == asset}
        refs = [pinned[partition] for partition in partitions if partition in pinned]
        manifests = self.manifests(refs)
        gone = [ref.version for ref in refs if ref not in manifests]
        if gone:
            raise VersionNotFoundError(
                f"{self.target.version} was made from versions that the store has no more: {', '.join(gone)}"
            )
        return {ref.partition: manifest for ref, manifest in manifests.items()}

    def write(self, draft: Draft, write_file: Callable[[Path], None]) -> WriteResult:
        """Nothing is written; the draft is kept so that its content hash can be compared."""
        if (draft.asset, draft.partition) == (self.target.asset, self.target.partition):
            self.drafts.append(draft)
        return WriteResult(self.target, created=False)

    def move_pointer(self, name: str, value: dict[str, Any]) -> None:
        """A rebuild decides nothing."""

    def append(self, log: str, number: int, entry: dict[str, Any]) -> bool:
        """Nor does anything happen by it."""
        return True

    def read_pointer(self, name: str) -> dict[str, Any] | None:
        """What holds for ever; other pointers have moved since: whoever reads them must go by the log."""
        return super().read_pointer(name) if name == METADATA else None

    def entries(self, log: str, after: int = 0) -> dict[int, dict[str, Any] | None]:
        """What had happened before the version was made."""
        created_at = self.target.created_at
        entries = super().entries(log, after).items()
        return {number: entry for number, entry in entries if entry and datetime.fromisoformat(entry["at"]) < created_at}
