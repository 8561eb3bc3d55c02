"""What a running step has loaded and noted, for the manifests of what it writes: written down as it happens.

The IO managers remember what Dagster loads for a step; an asset may pin more. How manifests are made of it is in `io_managers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import dagster as dg

from bid_assets.partitions import LOOKBACK_KEY
from bid_assets.settings import Settings
from bid_assets.versions.manifest import InputRef, Manifest
from bid_assets.versions.store import VersionStore
from bid_assets.versions.tables import WindowedTable
from bid_assets.windows import TimeRange

if TYPE_CHECKING:
    from dagster._core.execution.context.system import StepExecutionContext


class LoadedInput(NamedTuple):
    """A version that a step has loaded, and how many windows its input spans."""

    ref: InputRef
    metadata: Mapping[str, object]


_loaded: WeakKeyDictionary[StepExecutionContext, list[LoadedInput]] = WeakKeyDictionary()
_noted: WeakKeyDictionary[StepExecutionContext, Mapping[str, Mapping[str, Any]]] = WeakKeyDictionary()


def loaded_by(step: StepExecutionContext) -> list[LoadedInput]:
    """What a step has loaded so far; whoever loads more appends it."""
    return _loaded.setdefault(step, [])


def noted_by(step: StepExecutionContext, window: str) -> Mapping[str, Any]:
    """What a step has noted of a window."""
    return _noted.get(step, {}).get(window, {})


def note_windows(context: dg.AssetExecutionContext, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Facts (JSON) for the manifests of this step, by window: a range run's metadata would repeat all of them for each."""
    _noted[context.get_step_execution_context()] = facts


def loaded_versions(context: dg.AssetExecutionContext, asset: str) -> list[InputRef]:
    """The versions of `asset` that the running step has loaded, oldest window first."""
    loaded = loaded_by(context.get_step_execution_context())
    return [item.ref for item in loaded if item.ref.asset == asset]


def pin_again(
    context: dg.AssetExecutionContext, store: VersionStore, inputs: Mapping[str, WindowedTable]
) -> dict[str, WindowedTable]:
    """The same windows of the same assets as they are now, remembered as the step's inputs in the place of those before."""
    step = context.get_step_execution_context()
    loaded = loaded_by(step)
    span = {item.ref.asset: item.metadata for item in loaded}
    pinned = {}
    for name, table in inputs.items():
        heads = store.heads(table.asset, table.windows)
        pinned[name] = WindowedTable(store, table.asset, table.windows, heads, table.schema)
        others = [item for item in loaded if item.ref.asset != table.asset]
        loaded[:] = [
            *others,
            *(LoadedInput(heads[key].ref, span.get(table.asset, {})) for key in table.windows if key in heads),
        ]
    step.fetch_external_input_asset_version_info()  # so that Dagster names the same data versions
    return pinned


def pin_earlier(
    context: dg.AssetExecutionContext, store: VersionStore, settings: Settings, asset: str, count: int
) -> list[Manifest]:
    """The versions of `asset` in up to `count` windows before this one, oldest first, remembered as inputs of the step."""
    end, length = settings.cadence.window(context.partition_key).start, settings.cadence.length
    start = max(end - count * length, settings.first_moment)
    keys = settings.cadence.keys(TimeRange(start, end)) if start < end else []
    heads = store.heads(asset, keys)
    found = [heads[key] for key in keys if key in heads]
    pin(context, settings, *found)
    return found


def pin(context: dg.AssetExecutionContext, settings: Settings, *manifests: Manifest) -> None:
    """Remember versions of this window or of earlier ones as inputs of the step that Dagster's graph does not name."""
    loaded = loaded_by(context.get_step_execution_context())
    for manifest in manifests:
        keys = settings.cadence.keys(
            TimeRange(settings.cadence.window(manifest.partition).start, settings.cadence.window(context.partition_key).end)
        )
        loaded.append(LoadedInput(manifest.ref, {LOOKBACK_KEY: len(keys)}))
