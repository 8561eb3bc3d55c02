"""`bid-assets status`: the status of the loop and of the prediction services, as text or JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from bid_assets.cli.output import console, print_json
from bid_assets.cli.running_loop import difference_in_words, settings_of_loop
from bid_assets.common.windows import utc_now
from bid_assets.deployments.events import ModelState
from bid_assets.orchestration.loop_status import loop_status
from bid_assets.orchestration.retraining.policy import in_words
from bid_assets.serving.announcement import running_services
from bid_assets.settings import get_settings
from bid_assets.version_store.store_metadata import open_store


def status(*, as_json: bool) -> None:
    """Print the state of the loop."""
    settings, differences = settings_of_loop(get_settings())
    result = {
        "settings_that_differ": [asdict(difference) for difference in differences],
        "services": [asdict(service) for service in running_services(settings.home)],
        **loop_status(settings, open_store(settings)),
    }
    if as_json:
        print_json(result)
        return
    if differences:
        listed = ", ".join(map(difference_in_words, differences))
        console.print(
            f"[yellow]The running loop has other settings[/yellow], which count here: {escape(listed)}", soft_wrap=True
        )
    _print_status(result)


def _print_status(status: dict[str, Any]) -> None:
    _print_models(status["active"], status["newest_model"])
    _print_services(status["services"])
    outcomes = status["outcomes"]
    unread = outcomes["unread_windows"]
    console.print(
        f"Outcomes that are in no dataset yet: {outcomes['waiting']:,}"
        + (f"; unread rows in {sum(map(len, unread.values()))} window(s)" if unread else "")
        + ("" if outcomes["followed"] else "; nobody follows the database (`bid-assets up`)")
    )
    for failed in status["failed_refreshes"]:
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
    decision = status["policy"]
    color = "red" if decision["slow"] else {"retrain": "green", "wait": "cyan"}[decision["action"]]
    console.print(f"Policy: [{color}]{decision['action']}[/{color}], {escape(decision['reason'])}", soft_wrap=True)
    table = Table("run", "kind", "status", "windows", "started", "why", title="Last runs of the loop", title_justify="left")
    for run in status["runs"]:
        started = f"{run['created_at']:%Y-%m-%d %H:%M:%S}"
        table.add_row(run["run_id"][:8], run["kind"], run["status"], run["windows"], started, escape(run["reason"] or ""))
    console.print(table)


def _print_models(active: dict[str, Any] | None, newest: dict[str, Any] | None) -> None:
    if active is None:
        console.print("No model is active yet.")
    else:
        console.print(
            f"Active: [bold]{active['model']}[/bold] of window {active['window']}, for "
            f"{in_words(utc_now() - active['since'])}, "
            f"trained on {active['dataset']}",
            soft_wrap=True,
        )
    if newest is not None and newest["state"] != ModelState.ACTIVE:
        rejected = newest["state"] == ModelState.REJECTED
        console.print(
            f"Newest model: [bold]{newest['model']}[/bold] of window {newest['window']}, "
            f"[{'red' if rejected else 'yellow'}]{newest['state']}[/]"
            + (f": {escape(newest['reason'])}" if newest["reason"] else "")
            + (f". `bid-assets approve {newest['model']} --override` activates it all the same" if rejected else ""),
            soft_wrap=True,
        )


def _print_services(services: list[dict[str, Any]]) -> None:
    for service in services:
        if service["error"]:
            text = f"[red]does not answer[/red]: {escape(service['error'])}"
        elif service["ready"]:
            text = f"serves [bold]{service['model_version']}[/bold]"
        else:
            text = "[red]serves nothing[/red]"
        refused = service["refused"] or {}
        text += "".join(f"; [red]refuses {version}[/red]: {escape(why)}" for version, why in refused.items())
        if service["reason"] and not refused:
            text += f": {escape(service['reason'])}"
        console.print(f"Prediction service at {escape(service['url'])} {text}", soft_wrap=True)
    if not services:
        console.print("No prediction service runs in this home (`bid-assets up`, or `bid-assets serve`).")
