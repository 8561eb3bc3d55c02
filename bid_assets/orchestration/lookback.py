"""How many windows a dataset looks back over: as set, or until there are enough labelled bids. One answer for asset, planner
and backtest.

Counted from the outcomes of each window in the store; a window's outcomes are looked at once per version and process. No
Dagster.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow.compute as pc

from bid_assets.common.windows import MICROSECOND, TimeRange, as_utc
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore

LEAST_WINDOWS = 26
ENOUGH_LABELLED_BIDS = 20_000
ENOUGH_OF_RARER_CLASS = 500

_OUTCOMES = "raw_bid_outcomes"
_successes: dict[str, int] = {}
"""Successes among the outcomes with this content hash."""


def dataset_lookback(settings: Settings, store: VersionStore, key: str) -> int:
    """The number of windows that a dataset of the window `key` looks back over, its own included.

    By `auto` at least 26, and more until 20,000 bids with an outcome and 500 of the rarer class are among them, else all there
    are. Windows that nobody has read yet may hold any number: then as many again as have been, so that reading goes back step
    by step.
    """
    if settings.lookback_windows != "auto":
        return settings.lookback_windows
    end = settings.cadence.window(key).end
    keys = settings.cadence.keys(TimeRange(min(settings.first_moment, end - settings.cadence.length), end))[::-1]
    successes = outcomes = number = 0
    uncounted: list[Manifest] = []
    for begin in range(0, len(keys), LEAST_WINDOWS):
        chunk = keys[begin : begin + LEAST_WINDOWS]
        heads = store.heads(_OUTCOMES, chunk)
        for window in chunk:
            if window not in heads:
                return max(LEAST_WINDOWS, min(2 * number, len(keys)))
            number += 1
            outcomes += heads[window].rows or 0
            uncounted.append(heads[window])
            if number < LEAST_WINDOWS or outcomes < ENOUGH_LABELLED_BIDS:
                continue  # manifests say that; only from here on files are read
            successes += sum(_successes_of(store, each) for each in uncounted)
            uncounted.clear()
            if min(successes, outcomes - successes) >= ENOUGH_OF_RARER_CLASS:
                return number
    return max(LEAST_WINDOWS, number)


def lookback_before(settings: Settings, store: VersionStore, cutoff: datetime) -> timedelta:
    """The same as a time, of a dataset made at `cutoff`."""
    last = settings.cadence.key(as_utc(cutoff) - MICROSECOND)
    return dataset_lookback(settings, store, last) * settings.cadence.length


def _successes_of(store: VersionStore, outcomes: Manifest) -> int:
    if not outcomes.rows:
        return 0
    if outcomes.content_hash not in _successes:
        table = WindowedTable(store, _OUTCOMES, [outcomes.partition], {outcomes.partition: outcomes})
        _successes[outcomes.content_hash] = pc.sum(table.read(["is_success"])["is_success"]).as_py() or 0
    return _successes[outcomes.content_hash]
