"""`bid-assets run`: which windows to make, in which runs, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import dagster as dg
from rich.table import Table

from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.extent import RowsOutside, left_out
from bid_assets.app_db.fingerprints import changed
from bid_assets.app_db.reader import open_snapshot
from bid_assets.assets.raw import RAW_ASSETS
from bid_assets.automation.noticing import recorded_fingerprints
from bid_assets.automation.run_history import DECIDING, KIND_TAG, REASON_TAG, REFRESHED, Kind
from bid_assets.commands.console import console, notes, print_json, progress_bars
from bid_assets.definitions import build_defs
from bid_assets.features.families import families
from bid_assets.first_window import learn_first_window, windows_with_data
from bid_assets.instance import open_instance
from bid_assets.partitions import windows_for_days
from bid_assets.progress import report
from bid_assets.runs import RunOutcome, materialise
from bid_assets.settings import Settings, get_settings
from bid_assets.staleness import stale_windows
from bid_assets.versions.deployments import active_model
from bid_assets.versions.metadata import open_store
from bid_assets.versions.store import VersionStore
from bid_assets.windows import TimeRange, as_utc, utc_now


@dataclass(frozen=True)
class Plan:
    """The windows of a run: `lookback` are raw windows that history needs and nobody has made yet, `refresh` those of the
    range `wanted` from the first one on whose rows, inputs or code have changed."""

    wanted: tuple[str, ...]
    lookback: tuple[str, ...]
    refresh: tuple[str, ...]
    cutoffs: tuple[str, ...]


def run(first: datetime | None, last: datetime | None, cutoff_windows: str, *, as_json: bool) -> bool:
    """Run the main job and say what came of it. True where every run succeeded."""
    settings = get_settings()
    store = open_store(settings)
    settings, wanted, outside = wanted_range(settings, store, first, last)
    plan = make_plan(settings, store, wanted, cutoff_windows)
    before = active_model(store)
    with open_instance() as instance, progress_bars():
        outcomes = execute(build_defs(settings, store), instance, plan)
    after = active_model(store)
    if as_json:
        print_json(
            {
                "windows": list(plan.wanted),
                "refreshed": list(plan.refresh),
                "rows_left_out": [asdict(count) for count in outside],
                "cutoff_windows": [_decision_of(store, key, outcomes[key]) for key in plan.cutoffs if key in outcomes],
                "active_model": None if after is None else asdict(after),
                "failures": [failure for outcome in outcomes.values() for failure in outcome.failures],
            }
        )
    else:
        _say(store, plan, outcomes)
        if outside:
            first_key, last_key = (settings.cadence.key(moment) for moment in (settings.oldest_window, utc_now()))
            notes.print(left_out(outside, first_key, last_key, start_is_set=settings.start is not None), style="yellow")
        if after is not None:
            note = "unchanged" if before == after else "new"
            console.print(f"Active model ({note}): [bold]{after.model.version}[/bold] of window {after.model.partition}")
    return all(outcome.succeeded for outcome in outcomes.values())


def wanted_range(
    settings: Settings, store: VersionStore, first: datetime | None, last: datetime | None
) -> tuple[Settings, TimeRange, list[RowsOutside]]:
    """The range asked for (where an end is left open, the data's own), within the windows that there are.

    With it the settings that know the first window, and the rows that no window holds.
    """
    with open_snapshot(app_db_url(settings), cadence=settings.cadence, chunk_rows=settings.read_chunk_rows) as snapshot:
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


def make_plan(settings: Settings, store: VersionStore, wanted: TimeRange, cutoff_windows: str) -> Plan:
    """The windows to refresh, and those before them that look-backs need and the store does not have."""
    keys = settings.cadence.keys(wanted)
    cutoffs = _choose(keys, cutoff_windows)
    names = [family.name for family in families()]
    dataset_back = _keys_before(settings, cutoffs[0], settings.lookback_windows)
    absent = _absent(store, ["raw_bids", "raw_bid_outcomes", *names], [key for key in dataset_back if key < keys[0]])
    if absent:
        keys = settings.cadence.keys(TimeRange(settings.cadence.window(absent[0]).start, wanted.end))
    longest = max(family.lookback_days for family in families())
    history_back = _keys_before(settings, keys[0], windows_for_days(settings.cadence, longest))[:-1]
    lookback = _absent(store, list(RAW_ASSETS), history_back)
    lookback = [key for key in history_back if key >= lookback[0]] if lookback else []
    outdated = {*keys} if lookback else _outdated(settings, store, keys)
    refresh = [key for key in keys if key >= min(outdated)] if outdated else []
    return Plan(tuple(keys), tuple(lookback), tuple(refresh), tuple(cutoffs))


def execute(definitions: dg.Definitions, instance: dg.DagsterInstance, plan: Plan) -> dict[str, RunOutcome]:
    """Run the plan; outcomes by the window of the cutoff, that of the refresh under `refresh`."""
    outcomes: dict[str, RunOutcome] = {}
    if plan.lookback:
        outcomes["lookback"] = materialise(definitions, instance, RAW_ASSETS, plan.lookback, tags=_tags(Kind.REFRESH))
    if plan.refresh and all(outcome.succeeded for outcome in outcomes.values()):
        outcomes["refresh"] = materialise(definitions, instance, REFRESHED, plan.refresh, tags=_tags(Kind.REFRESH))
    if not all(outcome.succeeded for outcome in outcomes.values()):
        return outcomes
    for done, key in enumerate(plan.cutoffs, start=1):
        outcomes[key] = materialise(definitions, instance, DECIDING, [key], tags=_tags(Kind.RETRAINING))
        report("dataset to deployment", done, len(plan.cutoffs))
    return outcomes


def _outdated(settings: Settings, store: VersionStore, keys: Sequence[str]) -> set[str]:
    """The windows whose rows are not those that were read, or whose features are not made from those by the code of now."""
    span = TimeRange(settings.cadence.window(keys[0]).start, settings.cadence.window(keys[-1]).end)
    with open_snapshot(app_db_url(settings), cadence=settings.cadence) as snapshot:
        present = snapshot.fingerprints(span)
    recorded = recorded_fingerprints(store)
    stale = stale_windows(store, settings, families(), keys)
    unread = {key for key in keys if key not in recorded}
    return unread.union(changed({key: recorded[key] for key in keys if key in recorded}, present), *stale.values())


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


def _keys_before(settings: Settings, key: str, count: int) -> list[str]:
    """The `count` windows that end with `key`, fewer at the start of time."""
    window = settings.cadence.window(key)
    start = max(window.start - (count - 1) * settings.cadence.length, settings.first_moment)
    return settings.cadence.keys(TimeRange(start, window.end))


def _absent(store: VersionStore, assets: Sequence[str], keys: Sequence[str]) -> list[str]:
    present = [store.heads(asset, keys) for asset in assets]
    return [key for key in keys if not all(key in heads for heads in present)]


def _decision_of(store: VersionStore, key: str, outcome: RunOutcome) -> dict[str, Any]:
    """What came of a window, from the store."""
    made = {name: head for name in DECIDING if (head := store.head(name, key)) is not None}
    decision: Mapping[str, Any] = made["deployment"].info if "deployment" in made else {}
    ended = outcome.succeeded and "trained_model" not in outcome.observations
    return {
        "window": key,
        "succeeded": outcome.succeeded,
        "reason": decision.get("reason") if ended else "; ".join([*outcome.failures, *outcome.observations.values()]),
        "activated": ended and bool(decision.get("activated")),
        "outcome": decision.get("outcome") if ended else None,
        "metrics": made["metrics_report"].info if ended and "metrics_report" in made else {},
        "versions": {name: manifest.version for name, manifest in made.items()},
    }


def _say(store: VersionStore, plan: Plan, outcomes: Mapping[str, RunOutcome]) -> None:
    for name in ("lookback", "refresh"):
        for failure in outcomes[name].failures if name in outcomes else ():
            notes.print(f"[red]failed[/red] {failure}")
    table = Table("window", "ROC AUC", "log loss", "calibration error", "model", "why", title_justify="left")
    for key in plan.cutoffs:
        if key not in outcomes:
            continue
        decision = _decision_of(store, key, outcomes[key])
        figures = [decision["metrics"].get(name) for name in ("roc_auc", "log_loss", "calibration_error")]
        shown = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        table.add_row(key, *shown, decision["outcome"] or "none", decision["reason"])
    told = f"Of {len(plan.wanted)} windows, {plan.wanted[0]} to {plan.wanted[-1]}, "
    if plan.refresh:
        console.print(f"{told}{len(plan.refresh)} were refreshed, {plan.refresh[0]} to {plan.refresh[-1]}.")
    else:
        console.print(f"{told}none has changed.")
    console.print(table)
