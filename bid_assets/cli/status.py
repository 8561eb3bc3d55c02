"""`bid-assets status`: what is active, what waits, what ran last, and what the retraining policy says now."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import dagster as dg
from rich.markup import escape
from rich.table import Table

from bid_assets.cli.output import console, print_json
from bid_assets.cli.running_loop import difference_in_words, settings_of_loop
from bid_assets.common.windows import utc_now
from bid_assets.deployments.commands import MODEL
from bid_assets.deployments.events import State, active_model, history
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.refresh.change_detection import detect_new_rows
from bid_assets.orchestration.retraining.policy import Decision, RetrainingRules, RetrainingState, decide, in_words
from bid_assets.orchestration.retraining.state import gather_state
from bid_assets.orchestration.run_history import (
    REASON_TAG,
    REFRESH_KINDS,
    Kind,
    failure_message,
    finished_runs,
    latest_runs,
    new_outcomes_cursor,
    unresolved_failures,
)
from bid_assets.serving.announcement import running_services
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store

_SHOWN = 8


def status(*, as_json: bool) -> None:
    """Print the state of the loop."""
    settings, differences = settings_of_loop(get_settings())
    store = open_store(settings)
    with open_instance() as instance:
        state = gather_state(instance, store, settings)
        told = {
            "settings_that_differ": [asdict(difference) for difference in differences],
            "active": _active(store),
            "newest_model": _newest_model(store),
            "services": [asdict(service) for service in running_services(settings.home)],
            "outcomes": _outcomes(instance, settings, store, state),
            "policy": asdict(decide(state, RetrainingRules.of(settings))),
            "failed_refreshes": _failed_refreshes(instance, settings),
            "runs": _runs(instance),
        }
    if as_json:
        print_json(told)
    else:
        if differences:
            listed = ", ".join(map(difference_in_words, differences))
            console.print(
                f"[yellow]The running loop has other settings[/yellow], which count here: {escape(listed)}", soft_wrap=True
            )
        _say(told, decide(state, RetrainingRules.of(settings)))


def _active(store: VersionStore) -> dict[str, Any] | None:
    active = active_model(store)
    if active is None:
        return None
    model = store.manifests([active.model]).get(active.model)
    inputs = model.inputs if model is not None else ()
    dataset = next((ref.version for ref in inputs if ref.asset == "training_dataset"), None)
    return {"model": active.model.version, "window": active.model.partition, "since": active.since, "dataset": dataset}


def _newest_model(store: VersionStore) -> dict[str, Any] | None:
    """The newest model that was made, what it is now, and why."""
    models = store.heads(MODEL, store.partitions(MODEL)).values()
    newest = max(models, key=lambda model: model.created_at, default=None)
    if newest is None:
        return None
    seen = history(store)
    last = seen.of(newest.ref)[-1:]
    return {
        "model": newest.version,
        "window": newest.partition,
        "state": seen.state(newest.ref).value,
        "by": last[0].by if last else None,
        "reason": last[0].reason if last else None,
    }


def _outcomes(instance: dg.DagsterInstance, settings: Settings, store: VersionStore, state: RetrainingState) -> dict[str, Any]:
    """Outcomes that no dataset holds yet, as the policy counts them; and the windows in which there are unread rows."""
    cursor = new_outcomes_cursor(instance)
    unread = detect_new_rows(settings, store, cursor).windows if cursor is not None else {}
    return {
        "waiting": state.outcomes_since_last_dataset,
        "unread_windows": {table: sorted(keys) for table, keys in unread.items()},
        "followed": cursor is not None,
    }


def _failed_refreshes(instance: dg.DagsterInstance, settings: Settings) -> list[dict[str, Any]]:
    """What could not be read or computed, and no later run has made good."""
    return [
        {
            "run_id": run.run_id,
            "first": run.first,
            "last": run.last,
            "attempt": run.attempt,
            "slow": run.attempt >= settings.max_attempts,
            "message": failure_message(instance, run.run_id),
        }
        for run in unresolved_failures(finished_runs(instance, REFRESH_KINDS))
    ]


def _runs(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run.run_id,
            "kind": run.kind.value if run.kind else "by hand",
            "status": run.status.value,
            "windows": run.first if run.first == run.last else f"{run.first} to {run.last}",
            "created_at": run.created_at,
            "reason": run.tags.get(REASON_TAG),
        }
        for run in latest_runs(instance, list(Kind), _SHOWN)
    ]


def _say(told: dict[str, Any], decision: Decision) -> None:
    _say_models(told["active"], told["newest_model"])
    _say_services(told["services"])
    outcomes = told["outcomes"]
    unread = outcomes["unread_windows"]
    console.print(
        f"Outcomes that are in no dataset yet: {outcomes['waiting']:,}"
        + (f"; unread rows in {sum(map(len, unread.values()))} window(s)" if unread else "")
        + ("" if outcomes["followed"] else "; nobody follows the database (`bid-assets up`)")
    )
    for failed in told["failed_refreshes"]:
        console.print(
            f"[red]Windows {failed['first']} to {failed['last']} could not be refreshed[/red] (run {failed['run_id'][:8]}, "
            f"attempt {failed['attempt']}): {escape(failed['message'])}. "
            + (
                f"It is tried again once an hour; `bid-assets run --from {failed['first']} --to {failed['last']}` tries at once"
                if failed["slow"]
                else "It is tried again"
            ),
            soft_wrap=True,
        )
    color = "red" if decision.slow else {"retrain": "green", "wait": "cyan"}[decision.action]
    console.print(f"Policy: [{color}]{decision.action}[/{color}], {escape(decision.reason)}", soft_wrap=True)
    table = Table("run", "kind", "status", "windows", "started", "why", title="Last runs of the loop", title_justify="left")
    for run in told["runs"]:
        started = f"{run['created_at']:%Y-%m-%d %H:%M:%S}"
        table.add_row(run["run_id"][:8], run["kind"], run["status"], run["windows"], started, escape(run["reason"] or ""))
    console.print(table)


def _say_models(active: dict[str, Any] | None, newest: dict[str, Any] | None) -> None:
    if active is None:
        console.print("No model is active yet.")
    else:
        console.print(
            f"Active: [bold]{active['model']}[/bold] of window {active['window']}, for {in_words(utc_now() - active['since'])}, "
            f"trained on {active['dataset']}",
            soft_wrap=True,
        )
    if newest is not None and newest["state"] != State.ACTIVE:
        rejected = newest["state"] == State.REJECTED
        console.print(
            f"Newest model: [bold]{newest['model']}[/bold] of window {newest['window']}, "
            f"[{'red' if rejected else 'yellow'}]{newest['state']}[/]"
            + (f": {escape(newest['reason'])}" if newest["reason"] else "")
            + (f". `bid-assets approve {newest['model']} --override` activates it all the same" if rejected else ""),
            soft_wrap=True,
        )


def _say_services(services: list[dict[str, Any]]) -> None:
    for service in services:
        if service["error"]:
            told = f"[red]does not answer[/red]: {escape(service['error'])}"
        elif service["ready"]:
            told = f"serves [bold]{service['model_version']}[/bold]"
        else:
            told = "[red]serves nothing[/red]"
        refused = service["refused"] or {}
        told += "".join(f"; [red]refuses {version}[/red]: {escape(why)}" for version, why in refused.items())
        if service["reason"] and not refused:
            told += f": {escape(service['reason'])}"
        console.print(f"Prediction service at {escape(service['url'])} {told}", soft_wrap=True)
    if not services:
        console.print("No prediction service runs in this home (`bid-assets up`, or `bid-assets serve`).")
