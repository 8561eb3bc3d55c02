"""`bid-assets import` and `bid-assets marketplace`: filling the application's database."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bid_assets.app_db.database import app_db_url, engine
from bid_assets.commands.console import console, progress_bars
from bid_assets.progress import report
from bid_assets.settings import get_settings
from bid_assets.windows import as_utc

TRUTH_FOLDER = "marketplace"
"""Below the home folder: what only the simulation knows, where no asset reads."""


def import_directory(directory: str) -> None:
    """Import the files of a folder and say what changed."""
    from bid_assets.app_db import importer

    engine(app_db_url(get_settings())).dispose()  # nobody there is then said in one line
    with progress_bars():
        result = importer.import_directory(app_db_url(get_settings()), Path(directory), progress=report)
    console.print(result.summary())


def create_marketplace(*, weeks: int, bids: int, seed: int, end: datetime | None, overwrite: bool) -> None:
    """Simulate a market and write it into the application's database."""
    from bid_assets.marketplace.options import MarketplaceOptions
    from bid_assets.marketplace.simulate import simulate
    from bid_assets.marketplace.write import write

    settings = get_settings()
    options = MarketplaceOptions(weeks=weeks, bids=bids, seed=seed)
    if end is not None:
        options = replace(options, end=as_utc(end))
    with progress_bars():
        market = simulate(options)
        write(market, app_db_url(settings), settings.home / TRUTH_FOLDER, progress=report, replace=overwrite)
    console.print(
        f"Wrote {market.bids.num_rows:,} bids of {market.profiles.num_rows:,} profiles on {market.jobs.num_rows:,} jobs, "
        f"with {market.outcomes.num_rows:,} outcomes so far. Next: [bold]bid-assets run[/bold]"
    )
