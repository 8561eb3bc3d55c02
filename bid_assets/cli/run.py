"""`bid-assets run`: which windows to make, in which runs, and what came of them. What is due is planned as in the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import dagster as dg
from rich.table import Table

from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.snapshot_reader import open_snapshot
from bid_assets.app_db.time_extent import RowsOutside, left_out
from bid_assets.cli.output import console, notes, print_json, progress_bars
from bid_assets.common.progress import report
from bid_assets.common.windows import TimeRange, as_utc, utc_now
from bid_assets.deployments.events import active_model
from bid_assets.features.registry import families
from bid_assets.orchestration.assets.data_checks import refuse_unknown_checks
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.first_window import learn_first_window, windows_with_data
from bid_assets.orchestration.in_process_runs import RunOutcome, materialize
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.refresh.change_detection import differences, recorded_fingerprints
from bid_assets.orchestration.refresh.planning import featured_windows, lookback_windows, plan_refreshes, windows_in_reach
from bid_assets.orchestration.refresh.run_ranges import changed_windows
from bid_assets.orchestration.refresh.staleness import damaged_windows
from bid_assets.orchestration.retraining.current_decision import decision_is_current
from bid_assets.orchestration.run_history import KIND_TAG, REASON_TAG, RETRAINING_ASSETS, Kind, assets_of
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.caching import CachingStore
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store

MAX_STAGES = 40
"""Far more than the stages that there can be: raw tables of the look-back, changed windows, features that look back at them, and
two more each time that a look-back `auto` doubles."""


@dataclass(frozen=True)
class RunPlan:
    """The windows of a run: `windows` must have raw tables and features, `cutoffs` (among them) also a decision."""

    windows: tuple[str, ...]
    cutoffs: tuple[str, ...]
    changed: Mapping[str, frozenset[str]]
    """Table of the application -> those of the windows whose rows differ from what was read."""


@dataclass
class Progress:
    """What came of a run: how its refreshes ended, the windows that they covered, and how each decision ended."""

    refreshes: list[RunOutcome] = field(default_factory=list)
    refreshed: set[str] = field(default_factory=set)
    decisions: dict[str, RunOutcome | None] = field(default_factory=dict)
    """None for one that was current and not made again."""

    @property
    def outcomes(self) -> list[RunOutcome]:
        """All of them, in their order."""
        return [*self.refreshes, *(outcome for outcome in self.decisions.values() if outcome is not None)]


def run(
    first: datetime | None, last: datetime | None, cutoff_windows: str, *, as_json: bool, accept: Sequence[str] = ()
) -> bool:
    """Run the main job and say what came of it. True where every run succeeded.

    `accept`: data-quality checks by name that may fail in this run, since somebody has looked into it.
    """
    refuse_unknown_checks(accept)
    settings = get_settings()
    store = open_store(settings, CachingStore)
    settings, wanted, outside = wanted_range(settings, store, first, last)
    plan = make_plan(settings, store, wanted, cutoff_windows)
    if first or last:
        plan = with_damaged_windows(store, plan)
    before = active_model(store)
    with open_instance() as instance, progress_bars():
        try:
            progress = execute(settings, store, instance, plan, accept)
        except KeyboardInterrupt:
            notes.print("Interrupted. What was finished is kept; the same command goes on from there.", style="yellow")
            raise
    after = active_model(store)
    if as_json:
        print_json(
            {
                "windows": list(plan.windows),
                "refreshed": sorted(progress.refreshed),
                "rows_left_out": [asdict(count) for count in outside],
                "cutoff_windows": [_decision_of(store, key, outcome) for key, outcome in progress.decisions.items()],
                "active_model": None if after is None else asdict(after),
                "failures": [failure for outcome in progress.outcomes for failure in outcome.failures],
            }
        )
    else:
        _say(store, plan, progress)
        if outside:
            first_key, last_key = (settings.cadence.key(moment) for moment in (settings.oldest_window, utc_now()))
            notes.print(left_out(outside, first_key, last_key, start_is_set=settings.start is not None), style="yellow")
        if after is not None:
            note = "unchanged" if before == after else "new"
            console.print(f"Active model ({note}): [bold]{after.model.version}[/bold] of window {after.model.partition}")
    return all(outcome.succeeded for outcome in progress.outcomes)


def wanted_range(
    settings: Settings, store: VersionStore, first: datetime | None, last: datetime | None
) -> tuple[Settings, TimeRange, list[RowsOutside]]:
    """The range asked for (where an end is left open, the data's own), within the windows that there are.

    With it the settings that know the first window, and the rows that no window holds.
    """
    with open_snapshot(app_db_url(settings), cadence=settings.cadence, silence=settings.db_silence_seconds) as snapshot:
        extent = snapshot.extent()
        settings = learn_first_window(settings, store, snapshot.oldest_valid_bid())
        bounds = windows_with_data(settings)
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


def make_plan(settings: Settings, store: VersionStore, wanted: TimeRange, cutoff_windows: str) -> RunPlan:
    """The windows of `wanted`, those before them that the datasets look back over, and which of them have changed rows."""
    keys = settings.cadence.keys(wanted)
    cutoffs = _choose(keys, cutoff_windows)
    first = min(keys[0], *lookback_windows(settings, store, cutoffs[0]))
    span = TimeRange(settings.cadence.window(first).start, wanted.end)
    windows = settings.cadence.keys(span)
    with open_snapshot(app_db_url(settings), cadence=settings.cadence, silence=settings.db_silence_seconds) as snapshot:
        present = snapshot.fingerprints(span)
    recorded = recorded_fingerprints(store)
    changed = differences({key: recorded[key] for key in windows if key in recorded}, present)
    return RunPlan(tuple(windows), tuple(cutoffs), {table: frozenset(found) for table, found in changed.items()})


def with_damaged_windows(store: VersionStore, plan: RunPlan) -> RunPlan:
    """The plan, and windows of it with a damaged file as well: making them again restores the file.

    Of a local store every byte is read; of an object store the sizes must do.
    """
    assets = [*RAW_ASSETS, *(family.name for family in families())]
    damaged = damaged_windows(store, assets, plan.windows, checksums=store.files.local_reads)
    return replace(plan, changed={**plan.changed, "bids": plan.changed.get("bids", frozenset()) | damaged})


def execute(
    settings: Settings, store: VersionStore, instance: dg.DagsterInstance, plan: RunPlan, accept: Sequence[str] = ()
) -> Progress:
    """Refresh, stage after stage, until nothing is due; then make the decisions that are not current. A failure ends it."""
    definitions, progress = build_defs(settings, store), Progress()
    changed, check = plan.changed, set(plan.windows)
    for _ in range(MAX_STAGES):
        required = {*plan.windows, *lookback_windows(settings, store, plan.cutoffs[0])}  # as far as is known by now
        stage = plan_refreshes(settings, store, changed, check=check, required=required)
        for refresh in stage:
            keys = refresh.keys(settings.cadence)
            outcome = materialize(definitions, instance, assets_of(refresh), keys, tags=_tags(Kind.REFRESH))
            progress.refreshes.append(outcome)
            if not outcome.succeeded:
                return progress
            progress.refreshed.update(keys if refresh.families else [key for key in keys if key in changed_windows(changed)])
        if not stage:
            break
        changed, check = {}, check | (windows_in_reach(settings, stage) & featured_windows(store))
    else:
        raise RuntimeError(f"features are still out of date after {MAX_STAGES} rounds of refreshes; please report this")
    config = {"training_dataset": {"accept": list(accept)}} if accept else {}
    for done, key in enumerate(plan.cutoffs, start=1):
        if decision_is_current(definitions, settings, store, key, accept):
            progress.decisions[key] = None
        else:
            tags = _tags(Kind.RETRAINING)
            progress.decisions[key] = materialize(definitions, instance, RETRAINING_ASSETS, [key], config=config, tags=tags)
        report("dataset to deployment", done, len(plan.cutoffs))
    return progress


def _tags(kind: Kind) -> dict[str, str]:
    """By which the loop knows the run, if a daemon is turning it."""
    return {KIND_TAG: kind.value, REASON_TAG: "bid-assets run"}


def _choose(keys: Sequence[str], cutoff_windows: str) -> list[str]:
    if cutoff_windows == "all":
        return list(keys)
    count = 1 if cutoff_windows == "last" else int(cutoff_windows) if cutoff_windows.isdigit() else 0
    if count < 1:
        raise ValueError(f"--cutoff-windows takes last, all or a positive number, not {cutoff_windows!r}")
    return list(keys[-count:])


def _decision_of(store: VersionStore, key: str, outcome: RunOutcome | None) -> dict[str, Any]:
    """What came of a window, from the store; without an `outcome` what stands, since nothing has changed."""
    made = {name: head for name in RETRAINING_ASSETS if (head := store.head(name, key)) is not None}
    decision: Mapping[str, Any] = made["deployment"].info if "deployment" in made else {}
    ended = outcome is None or (outcome.succeeded and "trained_model" not in outcome.observations)
    problems = [] if outcome is None else [*outcome.failures, *outcome.observations.values()]
    return {
        "window": key,
        "succeeded": outcome is None or outcome.succeeded,
        "unchanged": outcome is None,
        "reason": decision.get("reason") if ended else "; ".join(problems),
        "activated": ended and bool(decision.get("activated")),
        "outcome": decision.get("outcome") if ended else None,
        "metrics": made["metrics_report"].info if ended and "metrics_report" in made else {},
        "versions": {name: manifest.version for name, manifest in made.items()},
    }


def _say(store: VersionStore, plan: RunPlan, progress: Progress) -> None:
    for outcome in progress.refreshes:
        for failure in outcome.failures:
            notes.print(f"[red]failed[/red] {failure}")
    table = Table("window", "ROC AUC", "log loss", "calibration error", "model", "why", title_justify="left")
    for key, ended in progress.decisions.items():
        decision = _decision_of(store, key, ended)
        figures = [decision["metrics"].get(name) for name in ("roc_auc", "log_loss", "calibration_error")]
        shown = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        table.add_row(key, *shown, decision["outcome"] or "none", decision["reason"])
    refreshed = sorted(progress.refreshed)
    if refreshed:
        what = f"{len(refreshed)} were refreshed, {refreshed[0]} to {refreshed[-1]}."
    else:
        what = "none has changed." if not progress.refreshes else "none was refreshed: the run failed."
    console.print(f"Of {len(plan.windows)} windows, {plan.windows[0]} to {plan.windows[-1]}, {what}")
    if progress.decisions:
        console.print(table)
    if unchanged := [key for key, ended in progress.decisions.items() if ended is None]:
        console.print(
            f"Not decided again, since inputs, settings and code are those of the decision that stands: {', '.join(unchanged)}."
        )
