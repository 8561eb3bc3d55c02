"""`bid-assets import` and `bid-assets marketplace`: filling the application's database."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.live import Live

from bid_assets.app_db.connections import engine
from bid_assets.app_db.database import app_db_url
from bid_assets.cli.output import console, progress_bars
from bid_assets.common.progress import report_progress
from bid_assets.common.windows import as_utc
from bid_assets.settings import get_settings

if TYPE_CHECKING:
    from bid_assets.simulation.live import RowCounts

TRUTH_FOLDER = "marketplace"
"""Below the home folder: what only the simulation knows, where no asset reads."""


def import_directory(directory: str, *, mix: bool = False) -> None:
    """Import the files of a folder and say what changed. `mix`: also where this home has a simulated market."""
    from bid_assets.app_db.importing import importer
    from bid_assets.simulation.truth import TRUTH_FILE

    home = get_settings().home
    if (home / TRUTH_FOLDER / TRUTH_FILE).exists() and not mix:
        raise ValueError(
            f"{home} has a simulated market; real bids beside simulated ones would teach the model both. Start a home of its "
            f"own for them: `BID_ASSETS_HOME=DIR bid-assets import {directory}`, and BID_ASSETS_HOME=DIR with every later "
            f"command; or mix them on purpose: `bid-assets import --mix`"
        )
    engine(app_db_url(get_settings())).dispose()  # so that an unreachable server is one line
    with progress_bars():
        result = importer.import_directory(
            app_db_url(get_settings()), Path(directory), progress=report_progress, silence=get_settings().db_silence_seconds
        )
    console.print(result.summary())


def create_marketplace(
    *, weeks: int, bids: int, seed: int, end: datetime | None, overwrite: bool, change_week: int | None = None
) -> None:
    """Simulate a market and write it into the application's database."""
    from bid_assets.simulation.options import MarketplaceOptions
    from bid_assets.simulation.simulate import simulate
    from bid_assets.simulation.write import write

    settings = get_settings()
    options = MarketplaceOptions(weeks=weeks, bids=bids, seed=seed, change_week=change_week)
    if end is not None:
        options = replace(options, end=as_utc(end))
    with progress_bars():
        market = simulate(options)
        write(market, app_db_url(settings), settings.home / TRUTH_FOLDER, progress=report_progress, replace=overwrite)
    console.print(
        f"Wrote {market.bids.num_rows:,} bids of {market.profiles.num_rows:,} profiles on {market.jobs.num_rows:,} jobs, "
        f"with {market.outcomes.num_rows:,} outcomes so far. Next: [bold]bid-assets run[/bold]"
    )


def play_marketplace(speed: float, until: datetime | None) -> None:
    """Let the simulated market go on at `speed` days per minute until that day, Ctrl-C or SIGTERM; say what happens in it."""
    from bid_assets.simulation.live import check_speed, moments, open_market

    check_speed(speed)
    settings = get_settings()
    until = None if until is None else as_utc(until)
    with progress_bars() as bars, open_market(app_db_url(settings), settings.home / TRUTH_FOLDER) as market:
        bars.stop()
        start, caught_up = market.at, False
        with _stop_event_on_signals() as stop, Live(console=console, auto_refresh=False) as live:
            for moment, is_present in moments(start, speed, until, stop.wait):
                market.advance(moment)
                live.update(
                    f"{_day(market.at)}   {_counts_in_words(market.row_counts)} so far, {speed:g} days a minute", refresh=True
                )
                if is_present and not caught_up:
                    caught_up = True
                    live.console.print("The market has caught up with the present. From here on it lives in real time.")
        console.print(
            f"Played from {_day(start)} to {_day(market.at)}: {_counts_in_words(market.row_counts)}. Playing again goes on "
            f"from there."
        )


@contextmanager
def _stop_event_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set while the block runs, so that a step is never cut in two."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _day(moment: datetime) -> str:
    return f"{moment:%a %Y-%m-%d %H:%M}"


def _counts_in_words(row_counts: RowCounts) -> str:
    return f"{row_counts.jobs:,} jobs, {row_counts.bids:,} bids, {row_counts.outcomes:,} outcomes"
