"""The main job, in this process: which windows to make, in which runs. What is due is planned as in the loop
(`refresh/planning.py`).

`bid-assets run` calls it and prints the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import dagster as dg

from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.snapshot_reader import open_snapshot
from bid_assets.app_db.time_extent import RowsOutside
from bid_assets.common.progress import report_progress
from bid_assets.common.windows import TimeRange, as_utc
from bid_assets.features.registry import families
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.first_window import span_of_windows, update_first_window
from bid_assets.orchestration.in_process_runs import RunOutcome, materialize
from bid_assets.orchestration.refresh.change_detection import compare_fingerprints, recorded_fingerprints
from bid_assets.orchestration.refresh.planning import featured_windows, lookback_windows, plan_refreshes, windows_in_reach
from bid_assets.orchestration.refresh.run_ranges import windows_of_changes
from bid_assets.orchestration.refresh.staleness import damaged_windows
from bid_assets.orchestration.retraining.decision_staleness import decision_is_current
from bid_assets.orchestration.run_history import KIND_TAG, REASON_TAG, RETRAINING_ASSETS, RunKind, assets_of
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

MAX_STAGES = 40
"""Far more than the stages that there can be: raw tables of the look-back, changed windows, features that look back at them,
and two more each time that a look-back `auto` doubles.
"""


@dataclass(frozen=True)
class MainJobPlan:
    """The windows of a run: `windows` must have raw tables and features, `cutoffs` (among them) also a decision."""

    windows: tuple[str, ...]
    cutoffs: tuple[str, ...]
    changed: Mapping[str, frozenset[str]]
    """Table of the application -> those of the windows whose rows differ from what was read."""


@dataclass
class MainJobResult:
    """The outcomes of the refreshes, the windows that they covered, and the outcome of each decision."""

    refreshes: list[RunOutcome] = field(default_factory=list)
    refreshed: set[str] = field(default_factory=set)
    decisions: dict[str, RunOutcome | None] = field(default_factory=dict)
    """None for one that was current and not made again."""

    @property
    def outcomes(self) -> list[RunOutcome]:
        """All of them, in their order."""
        return [*self.refreshes, *(outcome for outcome in self.decisions.values() if outcome is not None)]


def resolve_range(
    settings: Settings, store: VersionStore, first: datetime | None, last: datetime | None
) -> tuple[Settings, TimeRange, list[RowsOutside]]:
    """The range asked for (where an end is left open, the data's own), within the windows that there are.

    With it the settings that know the first window, and the rows that no window holds.
    """
    with open_snapshot(app_db_url(settings), cadence=settings.cadence, silence=settings.db_silence_seconds) as snapshot:
        extent = snapshot.extent()
        settings = update_first_window(settings, store, snapshot.oldest_valid_bid())
        bounds = span_of_windows(settings)
        outside = snapshot.rows_outside(bounds)
    if extent is None and (first is None or last is None):
        raise ValueError(
            "the application's database holds no bids yet; import some (`bid-assets import DIR`), "
            "simulate some (`bid-assets marketplace create`), or point BID_ASSETS_APP_DB_URL at it"
        )
    cadence = settings.cadence
    start = as_utc(first) if first else extent.start  # type: ignore[union-attr]
    end = cadence.floor(as_utc(last)) + cadence.length if last else extent.end  # type: ignore[union-attr]
    start, end = max(cadence.floor(start), bounds.start), min(end, bounds.end)
    if start >= end:
        raise ValueError(
            f"no window between {start:%Y-%m-%d} and {end:%Y-%m-%d}; they go from {bounds.start:%Y-%m-%d} "
            f"({'the oldest valid bid' if settings.start is None else 'BID_ASSETS_START'}) to the open one"
        )
    return settings, TimeRange(start, end), outside


def plan_main_job(settings: Settings, store: VersionStore, requested: TimeRange, cutoff_windows: str) -> MainJobPlan:
    """The windows of `requested`, those before them that the datasets look back over, and which of them have changed rows."""
    keys = settings.cadence.keys(requested)
    cutoffs = _choose_cutoffs(keys, cutoff_windows)
    first = min(keys[0], *lookback_windows(settings, store, cutoffs[0]))
    span = TimeRange(settings.cadence.window(first).start, requested.end)
    windows = settings.cadence.keys(span)
    with open_snapshot(app_db_url(settings), cadence=settings.cadence, silence=settings.db_silence_seconds) as snapshot:
        present = snapshot.fingerprints(span)
    recorded = recorded_fingerprints(store)
    changed = compare_fingerprints({key: recorded[key] for key in windows if key in recorded}, present)
    return MainJobPlan(tuple(windows), tuple(cutoffs), {table: frozenset(keys) for table, keys in changed.items()})


def with_damaged_windows(store: VersionStore, plan: MainJobPlan) -> MainJobPlan:
    """The plan, and windows of it with a damaged file as well: making them again restores the file.

    Of a local store every byte is read; of an object store the sizes must do.
    """
    assets = [*RAW_ASSETS, *(family.name for family in families())]
    damaged = damaged_windows(store, assets, plan.windows, checksums=store.files.local_reads)
    return replace(plan, changed={**plan.changed, "bids": plan.changed.get("bids", frozenset()) | damaged})


def run_main_job(
    settings: Settings, store: VersionStore, instance: dg.DagsterInstance, plan: MainJobPlan, accept: Sequence[str] = ()
) -> MainJobResult:
    """Refresh, stage after stage, until nothing is due; then make the decisions that are not current. A failure ends it."""
    definitions, result = build_defs(settings, store), MainJobResult()
    changed, check = plan.changed, set(plan.windows)
    for _ in range(MAX_STAGES):
        required = {*plan.windows, *lookback_windows(settings, store, plan.cutoffs[0])}  # as far as is known by now
        stage = plan_refreshes(settings, store, changed, check=check, required=required)
        for refresh in stage:
            keys = refresh.keys(settings.cadence)
            outcome = materialize(definitions, instance, assets_of(refresh), keys, tags=_tags(RunKind.REFRESH))
            result.refreshes.append(outcome)
            if not outcome.succeeded:
                return result
            result.refreshed.update(keys if refresh.families else [key for key in keys if key in windows_of_changes(changed)])
        if not stage:
            break
        changed, check = {}, check | (windows_in_reach(settings, stage) & featured_windows(store))
    else:
        raise RuntimeError(f"features are still out of date after {MAX_STAGES} rounds of refreshes; please report this")
    config = {"training_dataset": {"accept": list(accept)}} if accept else {}
    for done, key in enumerate(plan.cutoffs, start=1):
        if decision_is_current(definitions, settings, store, key, accept):
            result.decisions[key] = None
        else:
            tags = _tags(RunKind.RETRAINING)
            result.decisions[key] = materialize(definitions, instance, RETRAINING_ASSETS, [key], config=config, tags=tags)
        report_progress("dataset to deployment", done, len(plan.cutoffs))
    return result


def _tags(kind: RunKind) -> dict[str, str]:
    """By which the loop recognizes the run."""
    return {KIND_TAG: kind.value, REASON_TAG: "bid-assets run"}


def _choose_cutoffs(keys: Sequence[str], cutoff_windows: str) -> list[str]:
    if cutoff_windows == "all":
        return list(keys)
    count = 1 if cutoff_windows == "last" else int(cutoff_windows) if cutoff_windows.isdigit() else 0
    if count < 1:
        raise ValueError(f"--cutoff-windows takes last, all or a positive number, not {cutoff_windows!r}")
    return list(keys[-count:])
