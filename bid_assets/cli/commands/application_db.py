"""`bid-assets import` and `bid-assets marketplace`: rows for the application's database."""

from __future__ import annotations

from datetime import datetime

import click

from bid_assets.cli.options import DAY, example


@click.command("import", epilog=example("bid-assets import exports/2026-11"))
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--mix", is_flag=True, help="Import into a home that has a simulated market, beside its bids.")
def import_(directory: str, mix: bool) -> None:
    """Import profiles, jobs, bids and bid_outcomes files (CSV, Parquet) into the application's database.

    All or nothing: a bad file is refused with file, line and reason before anything is written. Running it twice changes
    nothing.
    """
    from bid_assets.cli.database import import_directory

    import_directory(directory, mix=mix)


@click.group()
def marketplace() -> None:
    """A simulated freelance market with a known truth, for demos and tests."""


@marketplace.command("create", epilog=example("bid-assets marketplace create --weeks 26 --bids 20000 --seed 7"))
@click.option("--weeks", default=26, show_default=True, help="Weeks of history.")
@click.option("--bids", default=20_000, show_default=True, help="So many bids.")
@click.option("--seed", default=7, show_default=True, help="Equal seeds give equal markets.")
@click.option("--end", type=DAY, help="The market's last day (default: the start of the current week).")
@click.option("--change-week", type=int, help="From this week on (0 is the first) clients care about other things.")
@click.option("--replace", is_flag=True, help="Replace what the application's tables hold.")
def marketplace_create(weeks: int, bids: int, seed: int, end: datetime | None, change_week: int | None, replace: bool) -> None:
    """Simulate a market and write it into the application's database."""
    from bid_assets.cli.database import create_marketplace

    create_marketplace(weeks=weeks, bids=bids, seed=seed, end=end, overwrite=replace, change_week=change_week)


@marketplace.command("play", epilog=example("bid-assets marketplace play --speed 7"))
@click.option("--speed", default=7.0, show_default=True, help="Days of the market in a minute.")
@click.option("--until", type=DAY, help="Stop at the start of this day, UTC (default: go on until Ctrl-C).")
def marketplace_play(speed: float, until: datetime | None) -> None:
    """The simulated market goes on living: new jobs, bids and profiles, and outcomes as they become known.

    It goes on from where it stands, never passes the present, and in the present lives in real time. Ctrl-C stops it; so may
    anything else, nothing is lost or doubled.
    """
    from bid_assets.cli.database import play_marketplace

    play_marketplace(speed, until)
