"""`bid-assets backtest`: the method judged on history, over the versions that `run` has made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from rich.table import Table

from bid_assets.assets.dataset import label_rules
from bid_assets.assets.model import training_parameters
from bid_assets.commands.console import console, print_json
from bid_assets.features.families import families
from bid_assets.settings import Settings, get_settings
from bid_assets.versions.hashing import json_hash
from bid_assets.versions.metadata import open_store
from bid_assets.versions.tables import WindowedTable
from bid_assets.windows import as_utc

FIGURES = ("roc_auc", "average_precision_rarer", "log_loss", "calibration_error")


def backtest(cutoff: datetime, *, seeds: int, as_json: bool) -> None:
    """Train on what was known at `cutoff`, judge on what came after, and print mean and spread over seeds."""
    result = run_backtest(get_settings(), as_utc(cutoff), seeds)
    if as_json:
        print_json(result)
        return
    console.print(figures_table(result))
    console.print(
        f"Trained on {result['train_rows']:,} bids decided by then ({result['train_undecided']:,} undecided left out), judged on "
        f"{result['test_rows']:,} later bids ({result['test_undecided']:,} undecided left out)."
    )


def figures_table(result: dict[str, Any]) -> Table:
    """The figures of the model, mean and spread over seeds, beside those of the baselines, which have no seed."""
    baselines = result["baselines"]
    names = [name.replace("_", " ") for name in baselines]
    title = f"Backtest at {result['cutoff']}, {result['seeds']} seed(s)"
    table = Table("figure", "model", "± over seeds", *names, title=title, title_justify="left")
    for figure in FIGURES:
        found = result[figure]
        others = [each[figure] for each in baselines.values()]
        table.add_row(figure, *("–" if value is None else f"{value:.4f}" for value in (found["mean"], found["std"], *others)))
    return table


def run_backtest(settings: Settings, cutoff: datetime, seeds: int) -> dict[str, Any]:
    """The backtest's figures, from the heads of all windows in the store."""
    from bid_assets.modelling.backtest import backtest as judge

    lookback = timedelta(days=settings.lookback_windows * settings.cadence.length.days)
    windows = _windows(settings, cutoff - lookback)
    if not windows or settings.cadence.window(windows[-1]).end <= cutoff:
        raise ValueError(f"the store has no bids from {cutoff:%Y-%m-%d} on to judge by; make them with `bid-assets run`")
    tables, _, _ = read_history(settings, first=cutoff - lookback)
    figures: dict[str, Any] = judge(
        tables["raw_bids"],
        tables["raw_bid_outcomes"],
        [(family, tables[family.name]) for family in families()],
        cutoff=cutoff,
        lookback=lookback,
        seeds=seeds,
        parameters=training_parameters(settings),
        cadence=settings.cadence,
        calibration_share=settings.calibration_share,
        rules=label_rules(settings),
    )
    return {**figures, "first_window": windows[0], "last_window": windows[-1]}


def read_history(settings: Settings, first: datetime | None = None) -> tuple[dict[str, pa.Table], str, str | None]:
    """Bids, outcomes and every family's rows from the window of `first` on; a hash of their versions; the encoder's print.

    Raises `ValueError` where the store has no windows, or a table lacks some.
    """
    store = open_store(settings)
    wanted = _windows(settings, first)
    if not wanted:
        raise ValueError("the store has no windows to judge by; make them with `bid-assets run`")
    tables, hashes, encoders = {}, [], set()
    for asset in ("raw_bids", "raw_bid_outcomes", *(family.name for family in families())):
        table = WindowedTable(store, asset, wanted, store.heads(asset, wanted))
        if table.missing:
            raise ValueError(
                f"{asset} has no version for {len(table.missing)} windows from {table.missing[0]} on; "
                f"make them with `bid-assets run --from {table.missing[0]}`"
            )
        tables[asset] = table.read()
        hashes.append([asset, *(manifest.content_hash for manifest in table.manifests)])
        encoders |= {manifest.info.get("encoder_fingerprint") for manifest in table.manifests} - {None}
    return tables, json_hash(hashes), encoders.pop() if len(encoders) == 1 else None


def _windows(settings: Settings, first: datetime | None) -> list[str]:
    # Raw windows reach back further than features: histories need them, models cannot use them.
    keys = open_store(settings).partitions(families()[-1].name)
    return [key for key in keys if first is None or settings.cadence.window(key).end > first]
