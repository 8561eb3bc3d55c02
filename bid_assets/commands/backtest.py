"""`bid-assets backtest`: the method judged on history, over the versions that `run` has made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from rich.table import Table

from bid_assets.assets.dataset import label_rules
from bid_assets.assets.model import training_parameters
from bid_assets.commands.console import console, print_json
from bid_assets.features.families import families
from bid_assets.settings import Settings, get_settings
from bid_assets.versions.store import VersionStore
from bid_assets.versions.tables import WindowedTable
from bid_assets.windows import as_utc

FIGURES = ("roc_auc", "average_precision_rarer", "log_loss", "calibration_error")


def backtest(cutoff: datetime, *, seeds: int, as_json: bool) -> None:
    """Train on what was known at `cutoff`, judge on what came after, and print mean and spread over seeds."""
    result = run_backtest(get_settings(), as_utc(cutoff), seeds)
    if as_json:
        print_json(result)
        return
    table = Table("figure", "mean", "spread over seeds", title=f"Backtest at {result['cutoff']}", title_justify="left")
    for name in FIGURES:
        table.add_row(name, f"{result[name]['mean']:.4f}", f"{result[name]['std']:.4f}")
    console.print(table)
    console.print(
        f"Trained on {result['train_rows']:,} bids decided by then ({result['train_undecided']:,} undecided left out), judged on "
        f"{result['test_rows']:,} later bids ({result['test_undecided']:,} undecided left out)."
    )


def run_backtest(settings: Settings, cutoff: datetime, seeds: int) -> dict[str, Any]:
    """The backtest's figures, from the heads of all windows in the store."""
    from bid_assets.modelling.backtest import backtest as judge

    store = VersionStore(settings.resolved_store_url)
    keys = store.partitions(families()[-1].name)  # raw windows reach back further: histories need them, models cannot use them
    lookback = timedelta(days=settings.lookback_windows * settings.cadence.length.days)
    wanted = [key for key in keys if settings.cadence.window(key).end > cutoff - lookback]
    if not wanted or settings.cadence.window(wanted[-1]).end <= cutoff:
        raise ValueError(f"the store has no bids from {cutoff:%Y-%m-%d} on to judge by; make them with `bid-assets run`")

    def read(asset: str) -> Any:
        table = WindowedTable(store, asset, wanted, store.heads(asset, wanted))
        if table.missing:
            raise ValueError(
                f"{asset} has no version for {len(table.missing)} windows from {table.missing[0]} on; "
                f"make them with `bid-assets run --from {table.missing[0]}`"
            )
        return table.read()

    figures: dict[str, Any] = judge(
        read("raw_bids"),
        read("raw_bid_outcomes"),
        [(family, read(family.name)) for family in families()],
        cutoff=cutoff,
        lookback=lookback,
        seeds=seeds,
        parameters=training_parameters(settings),
        cadence=settings.cadence,
        calibration_share=settings.calibration_share,
        rules=label_rules(settings),
    )
    return {**figures, "first_window": wanted[0], "last_window": wanted[-1]}
