"""`bid-assets run`, `up`, `status`, `demo` and `settings`: the loop, and how it is configured."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from bid_assets.cli.options import ANSWER_IS_NO, DAY, JSON, example, monday


@click.command(epilog=example("bid-assets run", f"bid-assets run --from {monday(30)} --to {monday(9)} --cutoff-windows 4"))
@click.option("--from", "first", type=DAY, help="First day (default: the first window with data).")
@click.option("--to", "last", type=DAY, help="Last day (default: the last window with data).")
@click.option(
    "--cutoff-windows",
    default="last",
    show_default=True,
    help="For which windows to make a dataset, model, report and decision: last, all, or the newest N.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="CHECK",
    help="A data-quality check that may fail this once, since you have looked into it (schema_as_before, say). Several may be "
    "given.",
)
@JSON
def run(first: datetime | None, last: datetime | None, cutoff_windows: str, accept: tuple[str, ...], as_json: bool) -> None:
    """The main job: read the windows, compute features, assemble, train, evaluate, decide.

    Everything goes through Dagster's instance and shows in its UI. Safe to run again: what did not change makes no new version.
    """
    from bid_assets.cli.run import run as run_command

    if not run_command(first, last, cutoff_windows, as_json=as_json, accept=accept):
        sys.exit(ANSWER_IS_NO)


@click.command(epilog=example("bid-assets up --port 3000 --service-port 8000", "bid-assets up --service-host 0.0.0.0"))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address that Dagster's UI listens on; any other than loopback needs a proxy with a login in front.",
)
@click.option("--port", default=3000, show_default=True, help="Port of the UI.")
@click.option(
    "--service-host",
    default="127.0.0.1",
    show_default=True,
    help="Address that the prediction service listens on; any other than loopback needs API keys.",
)
@click.option("--service-port", default=8000, show_default=True, help="Port of the prediction service.")
def up(host: str, port: int, service_host: str, service_port: int) -> None:
    """Dagster's web server and daemon, the prediction service, and the databases that they need. Ctrl-C stops everything."""
    from bid_assets.cli.up import up as up_command

    sys.exit(up_command(host, port, service_host, service_port))


@click.command(epilog=example("bid-assets status --json"))
@JSON
def status(as_json: bool) -> None:
    """What is active, which outcomes wait, what ran last, and what the retraining policy says now."""
    from bid_assets.cli.status import status as status_command

    status_command(as_json=as_json)


@click.command(epilog=example("bid-assets demo"))
@click.option("--bids", default=20_000, show_default=True, help="Size of the simulated market.")
@click.option("--weeks", default=26, show_default=True, help="Weeks of history.")
def demo(bids: int, weeks: int) -> None:
    """From nothing to an active model: a simulated market, the whole loop, and the results."""
    from bid_assets.cli.demo import demo as demo_command

    demo_command(bids=bids, weeks=weeks)


@click.command(epilog=example("bid-assets settings"))
@click.option("--markdown", is_flag=True, help="As the table in docs/reference/settings.md.")
def settings(markdown: bool) -> None:
    """Every setting, with its default, its value here, and its meaning."""
    from bid_assets.cli.settings import show_settings

    show_settings(markdown=markdown)
