"""`bid-assets deployments`, `approve`, `reject`, `rollback`: which models are served, and what people decide about them.

Imports little: going back to the model before must take less than a second.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from bid_assets.cli.models import METRICS, MODEL, metric_cells, model_metrics, state_cell
from bid_assets.cli.output import console, print_json
from bid_assets.deployments import commands
from bid_assets.deployments.events import DeploymentHistory, Event, read_history
from bid_assets.settings import get_settings
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.version_ids import short_ids

LOOP = "bid_assets, run "
"""How an event of the loop says who it was by."""
SHOWN = 20
"""So many models and events are shown, the newest."""


def show_deployments(*, as_json: bool) -> None:
    """What each model is now, with its metrics; the history, oldest first; and who answers."""
    store = _store()
    deployments = read_history(store)
    if as_json:
        states = [{**asdict(model), "state": state} for model, state in deployments.states.items()]
        print_json(
            {
                "events": [asdict(event) for event in deployments.events],
                "traffic": asdict(deployments.traffic),
                "models": states,
            }
        )
        return
    ids = short_ids(version for _, version in [*store.version_names(MODEL), *((None, m.version) for m in deployments.states)])
    console.print(_models_table(store, deployments, ids))
    console.print(_events_table(deployments, ids))
    console.print(traffic_in_words(deployments))


def _models_table(store: VersionStore, deployments: DeploymentHistory, ids: Mapping[str, str]) -> Table:
    metrics = model_metrics(store)
    table = Table("model", "window", "created (UTC)", *METRICS.values(), "state", title="Models", title_justify="left")
    for model, state in list(deployments.states.items())[-SHOWN:]:
        created = model.version.removeprefix(f"{MODEL}_")
        table.add_row(
            ids[model.version],
            model.partition,
            f"{created[:4]}-{created[4:6]}-{created[6:8]} {created[9:11]}:{created[11:13]}",
            *metric_cells(metrics.get(model.version)),
            state_cell(state),
        )
    return table


def _events_table(deployments: DeploymentHistory, ids: Mapping[str, str]) -> Table:
    earlier = len(deployments.events) - SHOWN
    title = "Deployments" + (f" ({earlier:,} earlier ones: --json)" if earlier > 0 else "")
    table = Table("", "when (UTC)", "model", "what", "by", "reason", title=title, title_justify="left")
    for event in deployments.events[-SHOWN:]:
        row = event.table_row()
        reason = escape(event.reason.replace(event.model.version, ids[event.model.version]))
        table.add_row(row["event"], row["when"][:16], ids[event.model.version], row["what"], _who(event), reason)
    return table


def _who(event: Event) -> str:
    """Who decided; a run of the loop by the beginning of its id, as Dagster's UI shows it."""
    by, _, run = event.by.partition(LOOP)
    return escape(event.by) if by or not run else f"loop, run {run[:8]}"


def traffic_in_words(deployments: DeploymentHistory) -> str:
    """Who answers now."""
    active, canary = deployments.traffic.active, deployments.traffic.canary
    if active is None:
        return "No model is active."
    words = [f"Active: [bold]{active.model.version}[/bold] since {active.since:%Y-%m-%d %H:%M:%S} UTC"]
    if canary is not None:
        words.append(f"canary: {canary.model.version} for {canary.share:.0%} of the profiles")
    if deployments.traffic.shadows:
        words.append(f"shadow: {', '.join(model.version for model in deployments.traffic.shadows)}")
    return "; ".join(words)


def approve(version: str, reason: str, *, override: bool) -> None:
    """Make a model that awaits approval the active one; with `override` a rejected one."""
    _apply_and_print(lambda store, by: commands.approve(store, version, by, reason, override=override))


def reject(version: str, reason: str) -> None:
    """Say no to a model that awaits approval."""
    _apply_and_print(lambda store, by: commands.reject(store, version, by, reason))


def rollback(to: str | None, reason: str) -> None:
    """Go back to an earlier active model."""
    _apply_and_print(lambda store, by: commands.rollback(store, to, by, reason))


def canary(version: str, share: float, reason: str) -> None:
    """Let a model answer for a share of the profiles."""
    _apply_and_print(lambda store, by: commands.canary(store, version, share, by, reason))


def shadow(version: str, reason: str) -> None:
    """Let a model score everything and answer nothing."""
    _apply_and_print(lambda store, by: commands.shadow(store, version, by, reason))


def end(version: str, reason: str) -> None:
    """End a canary or shadow."""
    _apply_and_print(lambda store, by: commands.end(store, version, by, reason))


def _apply_and_print(act: Callable[[VersionStore, str], Event]) -> None:
    row = act(_store(), getpass.getuser()).table_row()
    console.print(f"Event {row['event']}, by {row['by']}: [bold]{row['model']}[/bold] of window {row['window']}: {row['what']}")


def _store() -> VersionStore:
    return VersionStore(get_settings().resolved_store_url)
