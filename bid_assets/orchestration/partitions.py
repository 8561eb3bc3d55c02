"""Dagster's view of the windows: the partitions definition, and the mappings by which an asset looks back.

The arithmetic of windows is in `windows.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import dagster as dg
from dagster._core.definitions.utils import NoValueSentinel

from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.orchestration.lookback import dataset_lookback
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

KEY_FORMAT = "%Y-%m-%d"
LOOKBACK_KEY = "lookback_windows"
"""Metadata key of an input: how many windows it spans, so that a range run can tell which inputs belong to a window."""

MAX_MAPPED_WINDOWS = 99
"""From 100 mapped partitions on, Dagster silently stops to compute staleness for an edge."""

_CRON = {Cadence.WEEKLY: "0 0 * * 1", Cadence.DAILY: "0 0 * * *"}


def windows(settings: Settings) -> dg.TimeWindowPartitionsDefinition:
    """All windows from the first one to the open one, which is included."""
    return dg.TimeWindowPartitionsDefinition(
        start=settings.first_moment, cron_schedule=_CRON[settings.cadence], fmt=KEY_FORMAT, end_offset=1
    )


def lookback_input(count: int | Literal["auto"], dagster_type: dg.DagsterType | None = None) -> dg.AssetIn:
    """An input over `count` windows: the asset's own and those before it (fewer at the start of time; `auto`: see `lookback`).

    Dagster maps the newest `MAX_MAPPED_WINDOWS` of them, by which its UI shows lineage and staleness; the IO managers load all,
    and manifests name all. `dagster_type` says in which form an asset that takes its inputs by keyword wants it (see the IO
    managers).
    """
    mapped = MAX_MAPPED_WINDOWS if count == "auto" else min(count, MAX_MAPPED_WINDOWS)
    return dg.AssetIn(
        dagster_type=dagster_type or NoValueSentinel,
        partition_mapping=dg.TimeWindowPartitionMapping(start_offset=1 - mapped, end_offset=0),
        metadata={LOOKBACK_KEY: count},
    )


def windows_for_days(cadence: Cadence, days: int) -> int:
    """How many windows an input must span so that every moment of a window sees the `days` before it."""
    return 1 + -(-days // cadence.length.days)


def resolved_lookback(
    settings: Settings, store: VersionStore, key: str, metadata: Mapping[str, object]
) -> Mapping[str, object]:
    """An input's metadata with the number of windows instead of `auto`: what a dataset of the window `key` looks back over."""
    if metadata.get(LOOKBACK_KEY) != "auto":
        return metadata
    return {**metadata, LOOKBACK_KEY: dataset_lookback(settings, store, key)}


def keys_of_input(settings: Settings, mapped: Sequence[str], metadata: Mapping[str, object]) -> list[str]:
    """The windows that an input spans, oldest first: those that Dagster has mapped, and before them those that are too many for
    it.
    """
    unmapped = lookback_of(metadata) - MAX_MAPPED_WINDOWS
    if unmapped <= 0:
        return list(mapped)
    oldest = settings.cadence.window(mapped[0]).start
    start = max(oldest - unmapped * settings.cadence.length, settings.first_moment)
    return [*settings.cadence.keys(TimeRange(start, oldest)), *mapped]


def span_of(cadence: Cadence, keys: list[str]) -> TimeRange:
    """The time range from the first of these windows to the end of the last."""
    return TimeRange(cadence.window(min(keys)).start, cadence.window(max(keys)).end)


def first_key_of(cadence: Cadence, key: str, count: int) -> str:
    """The first of the `count` windows that end with `key`."""
    return cadence.key(cadence.window(key).start - (count - 1) * cadence.length)


def lookback_of(metadata: Mapping[str, object]) -> int:
    """How many windows an input spans, by its metadata."""
    count = metadata.get(LOOKBACK_KEY, 1)
    assert isinstance(count, int)
    return count
