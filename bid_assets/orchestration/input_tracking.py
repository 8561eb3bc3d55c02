"""Input tracking: the versions that a running step has loaded, and the metadata it has recorded, for the manifests of its
outputs.

The IO managers record what Dagster loads for a step; an asset may record more. How manifests are made of it is in
`io_managers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import dagster as dg

from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.orchestration.partitions import LOOKBACK_KEY, first_key_of, lookback_of
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore

if TYPE_CHECKING:
    from dagster._core.execution.context.system import StepExecutionContext


class LoadedInput(NamedTuple):
    """A version that a step has loaded, and how many windows its input spans."""

    ref: InputRef
    metadata: Mapping[str, object]


class LoadedInputs:
    """All versions that a step has loaded, by their windows: a range run asks for those of each of its windows."""

    def __init__(self) -> None:
        self._by_window: dict[str, list[tuple[int, InputRef]]] = {}
        self._lookbacks: set[int] = set()

    def add(self, items: Iterable[LoadedInput]) -> None:
        """Remember more."""
        for item in items:
            count = lookback_of(item.metadata)
            self._lookbacks.add(count)
            self._by_window.setdefault(item.ref.partition, []).append((count, item.ref))

    def replace(self, asset: str, refs: Iterable[InputRef]) -> None:
        """Remember these versions of an asset in the place of those before."""
        count = max((count for items in self._by_window.values() for count, ref in items if ref.asset == asset), default=1)
        for window, items in self._by_window.items():
            self._by_window[window] = [item for item in items if item[1].asset != asset]
        self.add(LoadedInput(ref, {LOOKBACK_KEY: count}) for ref in refs)

    def of_asset(self, asset: str) -> list[InputRef]:
        """The versions of one asset, oldest window first."""
        return [ref for key in sorted(self._by_window) for _, ref in self._by_window[key] if ref.asset == asset]

    def within_lookback(self, cadence: Cadence, key: str) -> tuple[InputRef, ...]:
        """The versions within the look-back of the window `key`, sorted by asset and window."""
        if not self._lookbacks:
            return ()
        firsts = {count: first_key_of(cadence, key, count) for count in self._lookbacks}
        span = TimeRange(cadence.window(min(firsts.values())).start, cadence.window(key).end)
        refs = {
            ref for window in cadence.keys(span) for count, ref in self._by_window.get(window, ()) if firsts[count] <= window
        }
        return tuple(sorted(refs, key=lambda ref: (ref.asset, ref.partition)))


_loaded: WeakKeyDictionary[StepExecutionContext, LoadedInputs] = WeakKeyDictionary()
_window_metadata: WeakKeyDictionary[StepExecutionContext, Mapping[str, Mapping[str, Any]]] = WeakKeyDictionary()


def loaded_by(step: StepExecutionContext) -> LoadedInputs:
    """What a step has loaded so far; whoever loads more adds it."""
    return _loaded.setdefault(step, LoadedInputs())


def recorded_window_metadata(step: StepExecutionContext, window: str) -> Mapping[str, Any]:
    """What a step has recorded of a window with `record_window_metadata`."""
    return _window_metadata.get(step, {}).get(window, {})


def record_window_metadata(context: dg.AssetExecutionContext, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Facts (JSON) for the manifests of this step, by window: a range run's metadata would repeat all of them for each."""
    _window_metadata[context.get_step_execution_context()] = facts


def loaded_versions(context: dg.AssetExecutionContext, asset: str) -> list[InputRef]:
    """The versions of `asset` that the running step has loaded, oldest window first."""
    return loaded_by(context.get_step_execution_context()).of_asset(asset)


def record_latest_inputs(
    context: dg.AssetExecutionContext, store: VersionStore, inputs: Mapping[str, WindowedTable]
) -> dict[str, WindowedTable]:
    """The same windows of the same assets as they are now, remembered as the step's inputs in the place of those before."""
    step = context.get_step_execution_context()
    pinned = {}
    for name, table in inputs.items():
        heads = store.heads(table.asset, table.windows)
        pinned[name] = WindowedTable(store, table.asset, table.windows, heads, table.schema)
        loaded_by(step).replace(table.asset, (heads[key].ref for key in table.windows if key in heads))
    step.fetch_external_input_asset_version_info()  # so that Dagster names the same data versions
    return pinned


def record_earlier_inputs(
    context: dg.AssetExecutionContext, store: VersionStore, settings: Settings, asset: str, count: int
) -> list[Manifest]:
    """The versions of `asset` in up to `count` windows before this one, oldest first, remembered as inputs of the step."""
    keys = earlier_windows(settings, context.partition_key, count)
    heads = store.heads(asset, keys)
    manifests = [heads[key] for key in keys if key in heads]
    record_inputs(context, settings, *manifests)
    return manifests


def earlier_windows(settings: Settings, key: str, count: int) -> list[str]:
    """Up to `count` windows before `key`, oldest first; none before the first window."""
    end = settings.cadence.window(key).start
    start = max(end - count * settings.cadence.length, settings.first_moment)
    return settings.cadence.keys(TimeRange(start, end)) if start < end else []


def record_inputs(context: dg.AssetExecutionContext, settings: Settings, *manifests: Manifest) -> None:
    """Remember versions of this window or of earlier ones as inputs of the step that Dagster's graph does not name."""
    loaded = loaded_by(context.get_step_execution_context())
    for manifest in manifests:
        keys = settings.cadence.keys(
            TimeRange(settings.cadence.window(manifest.partition).start, settings.cadence.window(context.partition_key).end)
        )
        loaded.add([LoadedInput(manifest.ref, {LOOKBACK_KEY: len(keys)})])
