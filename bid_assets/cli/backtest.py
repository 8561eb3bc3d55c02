"""`bid-assets backtest`: the method evaluated on history, over the versions that `run` has made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
from rich.table import Table

from bid_assets.cli.output import console, print_json
from bid_assets.common.windows import as_utc
from bid_assets.features.family import FeatureFamily
from bid_assets.features.registry import families
from bid_assets.orchestration.assets.dataset import label_rules
from bid_assets.orchestration.assets.model import training_parameters
from bid_assets.orchestration.lookback import lookback_before
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.plain_json import json_hash
from bid_assets.version_store.store_metadata import open_store

METRICS = ("roc_auc", "average_precision_rarer", "log_loss", "calibration_error")


def backtest(cutoffs: Sequence[datetime], *, seeds: int, end: datetime | None, as_json: bool) -> None:
    """Train on what was known at each cutoff, evaluate on the bids from then on (before `end`), and print the metrics."""
    results = run_backtests(get_settings(), [as_utc(cutoff) for cutoff in cutoffs], seeds, end and as_utc(end))
    if as_json:
        print_json(results[0] if len(results) == 1 else {"cutoffs": results, "mean": _mean(results)})
        return
    if len(results) > 1:
        console.print(cutoffs_table(results, _mean(results)))
        return
    [result] = results
    console.print(metrics_table(result))
    console.print(
        f"Trained on {result['train_rows']:,} bids decided by then ({result['train_undecided']:,} undecided left out), "
        f"evaluated on {result['test_rows']:,} later bids ({result['test_undecided']:,} undecided left out)."
    )


def cutoffs_table(results: Sequence[dict[str, Any]], mean: dict[str, Any]) -> Table:
    """A row for each cutoff and one of the means: the model's metrics, then ROC AUC and log loss of each baseline."""
    names = list(mean["baselines"])
    table = Table(
        "cutoff", "trained on", "evaluated on", *METRICS, *(f"{name.replace('_', ' ')}: ROC AUC, log loss" for name in names)
    )
    for result in results:
        model = {metric: result[metric]["mean"] for metric in METRICS}
        counts = [f"{result[name]:,}" for name in ("train_rows", "test_rows")]
        table.add_row(result["cutoff"][:16], *counts, *_cells(model, [result["baselines"][name] for name in names]))
    table.add_section()
    table.add_row("mean", "", "", *_cells(mean, [mean["baselines"][name] for name in names]))
    table.title, table.title_justify = f"Backtest at {len(results)} cutoffs, means of {results[0]['seeds']} seed(s)", "left"
    return table


def _cells(model: dict[str, float | None], baselines: Sequence[dict[str, float | None]]) -> list[str]:
    baseline_cells = [f"{_format_metric(each['roc_auc'])}, {_format_metric(each['log_loss'])}" for each in baselines]
    return [*(_format_metric(model[metric]) for metric in METRICS), *baseline_cells]


def _format_metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _mean(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from bid_assets.modelling.backtesting.cutoff import mean_over_cutoffs

    return mean_over_cutoffs(results)


def metrics_table(result: dict[str, Any]) -> Table:
    """The metrics of the model, mean and spread over seeds, beside those of the baselines, which have no seed."""
    baselines = result["baselines"]
    names = [name.replace("_", " ") for name in baselines]
    title = f"Backtest at {result['cutoff']}, {result['seeds']} seed(s)"
    table = Table("metric", "model", "± over seeds", *names, title=title, title_justify="left")
    for metric in METRICS:
        metrics = result[metric]
        others = [each[metric] for each in baselines.values()]
        table.add_row(metric, *(_format_metric(value) for value in (metrics["mean"], metrics["std"], *others)))
    return table


def run_backtests(
    settings: Settings, cutoffs: Sequence[datetime], seeds: int, end: datetime | None = None
) -> list[dict[str, Any]]:
    """The metrics at each cutoff, in order of time, from the heads of all windows in the store.

    Raises `ValueError` where `end` is not after every cutoff, or the store has no bids from a cutoff on.
    """
    from bid_assets.modelling.backtesting.cutoff import backtest as evaluate

    cutoffs = sorted(set(cutoffs))
    if end is not None and end <= cutoffs[-1]:
        raise ValueError(
            f"--end {end:%Y-%m-%d} is not after --cutoff {cutoffs[-1]:%Y-%m-%d}: no bid is between them to evaluate on"
        )
    lookbacks = {cutoff: lookback_before(settings, open_store(settings), cutoff) for cutoff in cutoffs}
    first = min(cutoff - lookback for cutoff, lookback in lookbacks.items())
    windows = _windows(settings, first)
    if not windows or settings.cadence.window(windows[-1]).end <= cutoffs[-1]:
        raise ValueError(
            f"the store has no bids from {cutoffs[-1]:%Y-%m-%d} on to evaluate on; make them with `bid-assets run`"
        )
    tables, _, _ = read_tables(settings, first=first)

    def metrics(cutoff: datetime) -> dict[str, Any]:
        return evaluate(
            tables["raw_bids"],
            tables["raw_bid_outcomes"],
            [(family, tables[family.name]) for family in families_read(settings)],
            cutoff=cutoff,
            lookback=lookbacks[cutoff],
            seeds=seeds,
            parameters=training_parameters(settings),
            cadence=settings.cadence,
            end=end,
            rules=label_rules(settings),
        )

    read = {"first_window": windows[0], "last_window": windows[-1]}
    return [{**metrics(cutoff), **read} for cutoff in cutoffs]


def families_read(settings: Settings) -> list[FeatureFamily]:
    """The families that models read by these settings: no embeddings where no model is to read them."""
    embeddings = training_parameters(settings).embeddings_in_model
    return [family for family in families() if embeddings or not family.needs_encoder]


def read_tables(settings: Settings, first: datetime | None = None) -> tuple[dict[str, pa.Table], str, str | None]:
    """Bids, outcomes and the rows of `families_read` from the window of `first` on; a hash of their versions; the encoder's
    print.

    Raises `ValueError` where the store has no windows, or a table lacks some.
    """
    store = open_store(settings)
    windows = _windows(settings, first)
    if not windows:
        raise ValueError("the store has no windows to evaluate on; make them with `bid-assets run`")
    tables, hashes, encoders = {}, [], set()
    for asset in ("raw_bids", "raw_bid_outcomes", *(family.name for family in families_read(settings))):
        table = WindowedTable(store, asset, windows, store.heads(asset, windows))
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
