"""`bid-assets deployments`, `approve`, `reject`, `rollback`: which models are served, and what people decide about them.

Imports little: going back to the model before must take less than a second.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from bid_assets.cli.models import FIGURES, MODEL, figure_cells, model_figures, state_cell
from bid_assets.cli.output import console, print_json
from bid_assets.deployments import commands
from bid_assets.deployments.events import Event, History, history
from bid_assets.settings import get_settings
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.version_ids import short_ids

LOOP = "bid_assets, run "
"""How an event of the loop says who it was by."""
SHOWN = 20
"""So many models and events are shown, the newest."""


def show_deployments(*, as_json: bool) -> None:
    """What each model is now, with its figures; the history, oldest first; and who answers."""
    store = _store()
    seen = history(store)
    if as_json:
        states = [{**asdict(model), "state": state} for model, state in seen.states.items()]
        print_json({"events": [asdict(event) for event in seen.events], "traffic": asdict(seen.traffic), "models": states})
        return
    ids = short_ids(version for _, version in [*store.version_names(MODEL), *((None, m.version) for m in seen.states)])
    console.print(_models_table(store, seen, ids))
    console.print(_events_table(seen, ids))
    console.print(traffic_in_words(seen))


def _models_table(store: VersionStore, seen: History, ids: Mapping[str, str]) -> Table:
    figures = model_figures(store)
    table = Table("model", "window", "made (UTC)", *FIGURES.values(), "state", title="Models", title_justify="left")
    for model, state in list(seen.states.items())[-SHOWN:]:
        made = model.version.removeprefix(f"{MODEL}_")
        table.add_row(
            ids[model.version],
            model.partition,
            f"{made[:4]}-{made[4:6]}-{made[6:8]} {made[9:11]}:{made[11:13]}",
            *figure_cells(figures.get(model.version)),
            state_cell(state),
        )
    return table


def _events_table(seen: History, ids: Mapping[str, str]) -> Table:
    earlier = len(seen.events) - SHOWN
    title = "Deployments" + (f" ({earlier:,} earlier ones: --json)" if earlier > 0 else "")
    table = Table("", "when (UTC)", "model", "what", "by", "reason", title=title, title_justify="left")
    for event in seen.events[-SHOWN:]:
        row = event.in_words()
        reason = escape(event.reason.replace(event.model.version, ids[event.model.version]))
        table.add_row(row["event"], row["when"][:16], ids[event.model.version], row["what"], _who(event), reason)
    return table


def _who(event: Event) -> str:
    """Who decided; a run of the loop by the beginning of its id, as Dagster's UI shows it."""
    by, _, run = event.by.partition(LOOP)
    return escape(event.by) if by or not run else f"loop, run {run[:8]}"


def traffic_in_words(seen: History) -> str:
    """Who answers now."""
    active, canary = seen.traffic.active, seen.traffic.canary
    if active is None:
        return "No model is active."
    words = [f"Active: [bold]{active.model.version}[/bold] since {active.since:%Y-%m-%d %H:%M:%S} UTC"]
    if canary is not None:
        words.append(f"canary: {canary.model.version} for {canary.share:.0%} of the profiles")
    if seen.traffic.shadows:
        words.append(f"shadow: {', '.join(model.version for model in seen.traffic.shadows)}")
    return "; ".join(words)


def approve(version: str, reason: str, *, override: bool) -> None:
    """Make a model that awaits approval the active one; with `override` a rejected one."""
    _say(lambda store, by: commands.approve(store, version, by, reason, override=override))


def reject(version: str, reason: str) -> None:
    """Say no to a model that awaits approval."""
    _say(lambda store, by: commands.reject(store, version, by, reason))


def rollback(to: str | None, reason: str) -> None:
    """Go back to an earlier active model."""
    _say(lambda store, by: commands.rollback(store, to, by, reason))


def canary(version: str, share: float, reason: str) -> None:
    """Let a model answer for a share of the profiles."""
    _say(lambda store, by: commands.canary(store, version, share, by, reason))


def shadow(version: str, reason: str) -> None:
    """Let a model score everything and answer nothing."""
    _say(lambda store, by: commands.shadow(store, version, by, reason))


def end(version: str, reason: str) -> None:
    """End a canary or shadow."""
    _say(lambda store, by: commands.end(store, version, by, reason))


def _say(act: Callable[[VersionStore, str], Event]) -> None:
    row = act(_store(), getpass.getuser()).in_words()
    console.print(f"Event {row['event']}, by {row['by']}: [bold]{row['model']}[/bold] of window {row['window']}: {row['what']}")


def _store() -> VersionStore:
    return VersionStore(get_settings().resolved_store_url)
