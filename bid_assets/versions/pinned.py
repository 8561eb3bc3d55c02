"""A store as it looked to one version: its inputs are pinned, and what is written is only compared. For rebuilding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from bid_assets.versions.manifest import Draft, Manifest
from bid_assets.versions.store import VersionNotFound, VersionStore, Written


class PinnedStore(VersionStore):
    """Reads exactly the inputs of `manifest`, whatever the heads are now; keeps the drafts of what would be written."""

    def __init__(self, url: str, manifest: Manifest) -> None:
        super().__init__(url)
        self.rebuilt = manifest
        self.drafts: list[Draft] = []

    def heads(self, asset: str, partitions: Iterable[str]) -> dict[str, Manifest]:
        """The pinned versions; windows that the version did not use are absent. Raises `VersionNotFound`."""
        pinned = {ref.partition: ref for ref in self.rebuilt.inputs if ref.asset == asset}
        wanted = [pinned[partition] for partition in partitions if partition in pinned]
        found = self.manifests(wanted)
        gone = [ref.version for ref in wanted if ref not in found]
        if gone:
            raise VersionNotFound(
                f"{self.rebuilt.version} was made from versions that the store has no more: {', '.join(gone)}"
            )
        return {ref.partition: manifest for ref, manifest in found.items()}

    def write(self, draft: Draft, write_file: Callable[[Path], None]) -> Written:
        """Nothing is written; the draft is kept so that its content hash can be compared."""
        self.drafts.append(draft)
        return Written(self.rebuilt, created=False)

    def move_pointer(self, name: str, value: dict[str, Any]) -> None:
        """A rebuild decides nothing."""

    def append(self, log: str, number: int, entry: dict[str, Any]) -> bool:
        """Nor does anything happen by it."""
        return True

    def entries(self, log: str, after: int = 0) -> list[dict[str, Any]]:
        """What had happened before the version was made."""
        then = self.rebuilt.created_at
        return [entry for entry in super().entries(log, after) if datetime.fromisoformat(entry["at"]) < then]
