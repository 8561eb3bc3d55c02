"""`bid-assets run`: the main job, and its result as tables or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.table import Table

from bid_assets.app_db.time_extent import describe_rows_outside
from bid_assets.cli.output import console, print_json, progress_bars, stderr
from bid_assets.common.windows import utc_now
from bid_assets.deployments.events import active_model
from bid_assets.orchestration.assets.data_checks import refuse_unknown_checks
from bid_assets.orchestration.in_process_runs import RunOutcome
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.main_job import (
    MainJobPlan,
    MainJobResult,
    plan_main_job,
    resolve_range,
    run_main_job,
    with_damaged_windows,
)
from bid_assets.orchestration.run_history import RETRAINING_ASSETS
from bid_assets.settings import get_settings
from bid_assets.version_store.caching import CachingStore
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store


def run(
    first: datetime | None, last: datetime | None, cutoff_windows: str, *, as_json: bool, accept: Sequence[str] = ()
) -> bool:
    """Run the main job and print its result. True where every run succeeded.

    `accept`: data-quality checks by name that may fail in this run, since somebody has looked into it.
    """
    refuse_unknown_checks(accept)
    settings = get_settings()
    store = open_store(settings, CachingStore)
    settings, span, outside = resolve_range(settings, store, first, last)
    plan = plan_main_job(settings, store, span, cutoff_windows)
    if first or last:
        plan = with_damaged_windows(store, plan)
    before = active_model(store)
    with open_instance() as instance, progress_bars():
        try:
            result = run_main_job(settings, store, instance, plan, accept)
        except KeyboardInterrupt:
            stderr.print("Interrupted. What was finished is kept; the same command goes on from there.", style="yellow")
            raise
    after = active_model(store)
    if as_json:
        print_json(
            {
                "windows": list(plan.windows),
                "refreshed": sorted(result.refreshed),
                "rows_left_out": [asdict(count) for count in outside],
                "cutoff_windows": [_decision_of_window(store, key, outcome) for key, outcome in result.decisions.items()],
                "active_model": None if after is None else asdict(after),
                "failures": [failure for outcome in result.outcomes for failure in outcome.failures],
            }
        )
    else:
        _print_result(store, plan, result)
        if outside:
            first_key, last_key = (settings.cadence.key(moment) for moment in (settings.oldest_window, utc_now()))
            stderr.print(
                describe_rows_outside(outside, first_key, last_key, start_is_set=settings.start is not None), style="yellow"
            )
        if after is not None:
            note = "unchanged" if before == after else "new"
            console.print(f"Active model ({note}): [bold]{after.model.version}[/bold] of window {after.model.partition}")
    return all(outcome.succeeded for outcome in result.outcomes)


def _decision_of_window(store: VersionStore, key: str, outcome: RunOutcome | None) -> dict[str, Any]:
    """What came of a window, from the store; without an `outcome` what stands, since nothing has changed."""
    heads = {name: head for name in RETRAINING_ASSETS if (head := store.head(name, key)) is not None}
    decision: Mapping[str, Any] = heads["deployment"].info if "deployment" in heads else {}
    ended = outcome is None or (outcome.succeeded and "trained_model" not in outcome.observations)
    problems = [] if outcome is None else [*outcome.failures, *outcome.observations.values()]
    return {
        "window": key,
        "succeeded": outcome is None or outcome.succeeded,
        "unchanged": outcome is None,
        "reason": decision.get("reason") if ended else "; ".join(problems),
        "activated": ended and bool(decision.get("activated")),
        "outcome": decision.get("outcome") if ended else None,
        "metrics": heads["metrics_report"].info if ended and "metrics_report" in heads else {},
        "versions": {name: manifest.version for name, manifest in heads.items()},
    }


def _print_result(store: VersionStore, plan: MainJobPlan, result: MainJobResult) -> None:
    for outcome in result.refreshes:
        for failure in outcome.failures:
            stderr.print(f"[red]failed[/red] {failure}")
    table = Table("window", "ROC AUC", "log loss", "calibration error", "model", "why", title_justify="left")
    for key, ended in result.decisions.items():
        decision = _decision_of_window(store, key, ended)
        values = [decision["metrics"].get(name) for name in ("roc_auc", "log_loss", "calibration_error")]
        shown = ["" if value is None else f"{value:.3f}" for value in values]
        table.add_row(key, *shown, decision["outcome"] or "none", decision["reason"])
    refreshed = sorted(result.refreshed)
    if refreshed:
        what = f"{len(refreshed)} were refreshed, {refreshed[0]} to {refreshed[-1]}."
    else:
        what = "none has changed." if not result.refreshes else "none was refreshed: the run failed."
    console.print(f"Of {len(plan.windows)} windows, {plan.windows[0]} to {plan.windows[-1]}, {what}")
    if result.decisions:
        console.print(table)
    if unchanged := [key for key, ended in result.decisions.items() if ended is None]:
        console.print(
            f"Not decided again, since inputs, settings and code are those of the decision that stands: {', '.join(unchanged)}."
        )
