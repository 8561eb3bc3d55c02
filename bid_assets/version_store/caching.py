"""A store that reads each manifest once, for one command: a version never changes, so what was read of it stays true.

HEAD, which says what the version of a window is, is read each time, and so is every other file. Not for a process that lives
long: what is read is kept as long as the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.store import VersionStore


class CachingStore(VersionStore):
    """Keeps the manifests that it has read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._manifest_cache: dict[tuple[str, str, str], Manifest] = {}

    def restore(self, manifest: Manifest, write_file: Callable[[Path], None]) -> Manifest:
        """The one change that a manifest can see: other bytes of the same content."""
        restored = super().restore(manifest, write_file)
        self._manifest_cache[manifest.asset, manifest.partition, manifest.version] = restored
        return restored

    def _manifests(self, keys: Sequence[tuple[str, str, str]]) -> list[Manifest | None]:
        unread = [key for key in keys if key not in self._manifest_cache]
        read = zip(unread, super()._manifests(unread), strict=True)
        self._manifest_cache.update((key, manifest) for key, manifest in read if manifest is not None)
        return [self._manifest_cache.get(key) for key in keys]
