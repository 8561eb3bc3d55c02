"""`bid-assets deployments`, `approve`, `reject`, `rollback`: which models are served, and what people decide about them.

Imports little: going back to the model before must take less than a second.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import asdict

from rich.table import Table

from bid_assets.commands.console import console, print_json
from bid_assets.settings import get_settings
from bid_assets.versions import approval
from bid_assets.versions.deployments import Event, History, history
from bid_assets.versions.store import VersionStore


def show_deployments(*, as_json: bool) -> None:
    """The history, oldest first, and who answers now."""
    seen = history(_store())
    if as_json:
        states = [{**asdict(model), "state": state} for model, state in seen.states.items()]
        print_json({"events": [asdict(event) for event in seen.events], "traffic": asdict(seen.traffic), "models": states})
        return
    table = Table("", "when (UTC)", "model", "what", "by", "reason", title="Deployments", title_justify="left")
    for event in seen.events:
        row = event.in_words()
        table.add_row(row["event"], row["when"], row["model"], row["what"], row["by"], row["reason"])
    console.print(table)
    console.print(in_words(seen))


def in_words(seen: History) -> str:
    """Who answers now."""
    active, canary = seen.traffic.active, seen.traffic.canary
    if active is None:
        return "No model is active."
    told = [f"Active: [bold]{active.model.version}[/bold] since {active.since:%Y-%m-%d %H:%M:%S} UTC"]
    if canary is not None:
        told.append(f"canary: {canary.model.version} for {canary.share:.0%} of the profiles")
    if seen.traffic.shadows:
        told.append(f"shadow: {', '.join(model.version for model in seen.traffic.shadows)}")
    return "; ".join(told)


def approve(version: str, reason: str) -> None:
    """Make a model that awaits approval the active one."""
    _say(lambda store, by: approval.approve(store, version, by, reason))


def reject(version: str, reason: str) -> None:
    """Say no to a model that awaits approval."""
    _say(lambda store, by: approval.reject(store, version, by, reason))


def rollback(to: str | None, reason: str) -> None:
    """Go back to an earlier active model."""
    _say(lambda store, by: approval.rollback(store, to, by, reason))


def canary(version: str, share: float, reason: str) -> None:
    """Let a model answer for a share of the profiles."""
    _say(lambda store, by: approval.canary(store, version, share, by, reason))


def shadow(version: str, reason: str) -> None:
    """Let a model score everything and answer nothing."""
    _say(lambda store, by: approval.shadow(store, version, by, reason))


def end(version: str, reason: str) -> None:
    """End a canary or shadow."""
    _say(lambda store, by: approval.end(store, version, by, reason))


def _say(act: Callable[[VersionStore, str], Event]) -> None:
    row = act(_store(), getpass.getuser()).in_words()
    console.print(f"Event {row['event']}, by {row['by']}: [bold]{row['model']}[/bold] of window {row['window']}: {row['what']}")


def _store() -> VersionStore:
    return VersionStore(get_settings().resolved_store_url)
