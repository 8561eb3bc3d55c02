"""A store as it looked to one version: its inputs are pinned, and what is written is only compared. For rebuilding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bid_assets.versions.manifest import Draft, Manifest
from bid_assets.versions.store import VersionStore, Written


class PinnedStore(VersionStore):
    """Reads exactly the inputs of `manifest`, whatever the heads are now; keeps the drafts of what would be written."""

    def __init__(self, url: str, manifest: Manifest) -> None:
        super().__init__(url)
        self.rebuilt = manifest
        self.drafts: list[Draft] = []

    def heads(self, asset: str, partitions: Iterable[str]) -> dict[str, Manifest]:
        """The pinned versions; windows that the version did not use are absent."""
        wanted = set(partitions)
        pinned = [ref for ref in self.rebuilt.inputs if ref.asset == asset and ref.partition in wanted]
        return {ref.partition: self.manifest(ref.asset, ref.partition, ref.version) for ref in pinned}

    def head(self, asset: str, partition: str) -> Manifest | None:
        """The pinned version of one window."""
        return self.heads(asset, [partition]).get(partition)

    def write(self, draft: Draft, write_file: Callable[[Path], None]) -> Written:
        """Nothing is written; the draft is kept so that its content hash can be compared."""
        self.drafts.append(draft)
        return Written(self.rebuilt, created=False)

    def move_pointer(self, name: str, value: dict[str, Any]) -> None:
        """A rebuild decides nothing."""
