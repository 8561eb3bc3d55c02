"""Which feature windows were made from other versions than those that are there now. From manifests alone, no Dagster.

A window is current if its manifest names just the inputs, by content, that it would be given now, and the same code and
settings. That is what a dataset asks of its inputs, and what `bid-assets run` asks before it makes anything again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.features.family import FeatureFamily
from bid_assets.orchestration.partitions import first_key_of, windows_for_days
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.store import VersionStore

Heads = Mapping[str, Mapping[str, Manifest]]
"""Asset -> window -> the version that readers get."""


@dataclass(frozen=True)
class FamilyInputs:
    """What a family reads, and over how many windows."""

    family: FeatureFamily
    cadence: Cadence

    @property
    def windows(self) -> int:
        """How many windows it looks at, its own included."""
        return windows_for_days(self.cadence, self.family.lookback_days)

    def matches_heads(self, manifest: Manifest, heads: Heads) -> bool:
        """Whether `manifest` was made from the content that `heads` have now."""
        first = first_key_of(self.cadence, manifest.partition, self.windows)
        keys = self.cadence.keys(TimeRange(self.cadence.window(first).start, self.cadence.window(manifest.partition).end))
        present = {
            (asset, key, heads[asset][key].content_hash) for asset in self.family.reads for key in keys if key in heads[asset]
        }
        return present == {(ref.asset, ref.partition, ref.content_hash) for ref in manifest.inputs}


def raw_heads(store: VersionStore, settings: Settings, families: Iterable[FeatureFamily], keys: Iterable[str]) -> Heads:
    """The heads of all raw tables that the families look at for the windows `keys`."""
    keys, families = list(keys), list(families)
    longest = max(windows_for_days(settings.cadence, family.lookback_days) for family in families)
    first = first_key_of(settings.cadence, min(keys), longest)
    start = max(settings.cadence.window(first).start, settings.first_moment)
    window_keys = settings.cadence.keys(TimeRange(start, settings.cadence.window(max(keys)).end))
    return {asset: store.heads(asset, window_keys) for asset in sorted({name for family in families for name in family.reads})}


def damaged_windows(
    store: VersionStore, assets: Iterable[str], keys: Iterable[str] | None = None, *, checksums: bool = False
) -> set[str]:
    """The windows (of `keys`, or of all) in which one of the assets has a HEAD and no intact version; see `intact_heads`."""
    damaged: set[str] = set()
    for asset in assets:
        windows = set(store.partitions(asset))
        if keys is not None:
            windows.intersection_update(keys)
        damaged |= windows - intact_heads(store, asset, sorted(windows), checksums=checksums).keys()
    return damaged


def intact_heads(store: VersionStore, asset: str, keys: Iterable[str], *, checksums: bool = False) -> dict[str, Manifest]:
    """The heads whose file is there and has its size; with `checksums`, every byte of it is compared."""
    heads = store.heads(asset, keys)
    damaged = {manifest.partition for manifest in store.damaged(heads.values(), checksums=checksums)}
    return {key: manifest for key, manifest in heads.items() if key not in damaged}


def stale_windows(
    store: VersionStore,
    settings: Settings,
    families: Iterable[FeatureFamily],
    keys: Iterable[str],
) -> dict[str, list[str]]:
    """Family -> those of the windows `keys` that are absent, damaged or no longer current; without families that have none."""
    keys, families = list(keys), list(families)
    heads = raw_heads(store, settings, families, keys)
    stale_by_family = {}
    for family in families:
        intact = intact_heads(store, family.name, keys)
        inputs = FamilyInputs(family, settings.cadence)
        stale = [key for key in keys if key not in intact or not _current(intact[key], inputs, heads, settings)]
        if stale:
            stale_by_family[family.name] = stale
    return stale_by_family


def _current(manifest: Manifest, inputs: FamilyInputs, heads: Heads, settings: Settings) -> bool:
    family = inputs.family
    same_settings = not family.needs_encoder or manifest.settings.get("encoder") == settings.encoder
    return manifest.code.asset == family.code_version and same_settings and inputs.matches_heads(manifest, heads)
