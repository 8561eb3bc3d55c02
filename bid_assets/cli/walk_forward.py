"""`bid-assets backtest --every window`: walk forward over history, in parallel, resumable; retraining policies compared.

What is finished is kept under `<home>/backtests/<key>/`, one file for each cutoff, put there whole. The key is made from all
that decides the result: the versions read, the settings that matter, and the source code of the modelling.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from bid_assets.cli.backtest import families_read, read_tables
from bid_assets.cli.output import console, print_json, progress_bars
from bid_assets.common.arrow import microseconds
from bid_assets.common.progress import report_progress
from bid_assets.common.windows import TimeRange, as_utc
from bid_assets.modelling.evaluation import plots
from bid_assets.modelling.evaluation.charts import page
from bid_assets.orchestration.assets.dataset import LABEL_SETTINGS, label_rules
from bid_assets.orchestration.assets.model import training_parameters
from bid_assets.orchestration.lookback import LEAST_WINDOWS, lookback_before
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.code_version import code_of
from bid_assets.version_store.plain_json import json_hash
from bid_assets.version_store.store_metadata import open_store

DEFAULT_POLICIES = ("never", "monthly", "weekly", "every:1000")
_METRICS = ("roc_auc", "average_precision_rarer", "log_loss", "brier")
_FORECASTS = "What was to be expected of each model, and how it did on the bids that came"
_TABLES = ("bids", "outcomes", "evaluation_bids")


@dataclass(frozen=True)
class Walk:
    """From when to when, at which cutoffs, and where what is finished lies."""

    cutoffs: tuple[datetime, ...]
    until: Mapping[datetime, datetime]
    """The end of the evaluation period of each cutoff's model."""
    end: datetime
    folder: Path


@progress_bars()
def walk_forward(
    first: datetime | None,
    last: datetime | None,
    every: int,
    ahead: int,
    policies: Sequence[str],
    workers: int,
) -> dict[str, Any]:
    """Walk forward: a cutoff every `every` windows, its model evaluated on the `ahead` windows after it.

    The metrics as `steps` by cutoff, `coverage` by metric, `policies` by name, and `picture` (path of an HTML page).
    """
    from bid_assets.modelling.backtesting.retraining_policies import evaluate_policy
    from bid_assets.modelling.backtesting.retraining_policies import policy_cutoffs as cutoffs_of_policy
    from bid_assets.modelling.backtesting.walk_forward import coverage

    settings = get_settings()
    tables, key, fingerprint = read_tables(settings)
    folder = settings.home / "backtests" / json_hash([key, _determining(settings), code_of("modelling")])[:16]
    evaluation_bids = _prepared(settings, tables, folder)
    if not evaluation_bids.num_rows:
        raise ValueError("no bid of the store is old enough to evaluate on: all are younger than the label maturity")
    span = _span(settings, evaluation_bids, first, last)
    known_times = np.sort(microseconds(tables["raw_bid_outcomes"]["outcome_timestamp"]))
    length = settings.cadence.length * every
    walk = [span.start + n * length for n in range(-(-(span.end - span.start) // length))]
    policy_cutoffs = {policy: cutoffs_of_policy(policy, span.start, span.end, known_times) for policy in policies}
    cutoffs = sorted({*walk, *(moment for moments in policy_cutoffs.values() for moment in moments)})
    until = {moment: min(moment + ahead * settings.cadence.length, span.end) for moment in cutoffs}
    _work(Walk(tuple(cutoffs), until, span.end, folder), settings, fingerprint, workers)
    facts, probabilities = _finished(folder, until)
    seconds = {moment: facts[moment]["seconds"] for moment in cutoffs}
    steps = [facts[moment] for moment in walk]
    costs = {
        name: evaluate_policy(evaluation_bids, moments, span.end, probabilities, seconds, settings.cadence)
        for name, moments in policy_cutoffs.items()
    }
    picture = folder / f"walk-{span.start:%Y%m%d}-{span.end:%Y%m%d}-{every}-{ahead}.html"
    charts = {_FORECASTS: plots.forecasts(steps), "Log loss by window under each retraining policy": plots.policies(costs)}
    picture.write_text(page("Walk forward", charts))
    return {
        "from": span.start.isoformat(),
        "to": span.end.isoformat(),
        "evaluation_bids": evaluation_bids.num_rows,
        "steps": steps,
        "coverage": {metric: coverage(steps, metric) for metric in _METRICS},
        "policies": costs,
        "picture": str(picture),
    }


def _span(settings: Settings, evaluation_bids: pa.Table, first: datetime | None, last: datetime | None) -> TimeRange:
    """The requested range. By default from when half of a look-back lies behind, to the last bid that is old enough."""
    cadence = settings.cadence
    begin, end = (cadence.floor(moment) for moment in pc.min_max(evaluation_bids["submitted_at"]).as_py().values())
    lookback = LEAST_WINDOWS if settings.lookback_windows == "auto" else settings.lookback_windows
    start = cadence.floor(as_utc(first)) if first else begin + min(lookback * cadence.length, (end - begin)) // 2
    start, stop = cadence.floor(start), cadence.floor(as_utc(last)) if last else end + cadence.length
    if start >= stop:
        raise ValueError(f"nothing between {start:%Y-%m-%d} and {stop:%Y-%m-%d}; bids old enough end on {end:%Y-%m-%d}")
    return TimeRange(start, stop)


def _determining(settings: Settings) -> dict[str, Any]:
    names = {"cadence", "lookback_windows", "holdout_share", *LABEL_SETTINGS}
    return {**settings.model_dump(mode="json", include=names), "parameters": training_parameters(settings).as_dict()}


def _prepared(settings: Settings, tables: Mapping[str, pa.Table], folder: Path) -> pa.Table:
    """Write the tables once, where every worker maps them into memory; gives the evaluation bids."""
    from bid_assets.modelling.backtesting.walk_forward import evaluation_bids as select_evaluation_bids

    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    if not (data / "evaluation_bids.arrow").exists():
        features = [(family, tables[family.name]) for family in families_read(settings)]
        evaluation_bids = select_evaluation_bids(
            tables["raw_bids"],
            tables["raw_bid_outcomes"],
            features,
            cadence=settings.cadence,
            rules=label_rules(settings),
        )
        named = {"bids": tables["raw_bids"], "outcomes": tables["raw_bid_outcomes"]}
        for name, table in {
            **named,
            **{family.name: table for family, table in features},
            "evaluation_bids": evaluation_bids,
        }.items():
            _put(data / f"{name}.arrow", table)
    return _mapped(data / "evaluation_bids.arrow")


def _put(path: Path, table: pa.Table) -> None:
    new = path.with_suffix(f".{os.getpid()}")
    with pa.OSFile(str(new), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    new.rename(path)


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _work(walk: Walk, settings: Settings, fingerprint: str | None, workers: int) -> None:
    """Make every step that is not finished yet, in processes of their own."""
    unfinished = [moment for moment in walk.cutoffs if not _file(walk.folder, moment, walk.until[moment]).exists()]
    report_progress("cutoffs", len(walk.cutoffs) - len(unfinished), len(walk.cutoffs))
    if not unfinished:
        return
    settings_json = settings.model_dump_json()
    with ProcessPoolExecutor(
        min(workers, len(unfinished)), get_context("spawn"), _begin, (str(walk.folder), settings_json, fingerprint)
    ) as pool:
        running = [pool.submit(_step, moment, walk.until[moment]) for moment in unfinished]
        for done, future in enumerate(as_completed(running), start=len(walk.cutoffs) - len(unfinished) + 1):
            future.result()
            report_progress("cutoffs", done, len(walk.cutoffs))


_worker: dict[str, Any] = {}


def _begin(folder: str, settings_json: str, fingerprint: str | None) -> None:
    """In a worker: map the tables, keep to one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)
    from bid_assets.modelling.backtesting.walk_forward import BacktestTables, Method

    settings = Settings.model_validate_json(settings_json)
    data = Path(folder) / "data"
    bids, outcomes, evaluation_bids = (_mapped(data / f"{name}.arrow") for name in _TABLES)
    features = {family.name: _mapped(data / f"{family.name}.arrow") for family in families_read(settings)}
    method = Method(
        training_parameters(settings),
        settings.cadence.length,  # each step has its own look-back
        settings.cadence,
        settings.holdout_share,
        label_rules(settings),
    )
    _worker.update(
        settings=settings,
        store=open_store(settings),
        folder=Path(folder),
        tables=BacktestTables(bids, outcomes, features, evaluation_bids),
        method=method,
        fingerprint=fingerprint,
    )


def _step(cutoff: datetime, until: datetime) -> None:
    from bid_assets.modelling.backtesting.walk_forward import evaluate_cutoff

    method = replace(_worker["method"], lookback=lookback_before(_worker["settings"], _worker["store"], cutoff))
    result = evaluate_cutoff(
        _worker["tables"], families_read(_worker["settings"]), method, cutoff, until, _worker["fingerprint"]
    )
    path = _file(_worker["folder"], cutoff, until)
    new = path.with_suffix(f".{os.getpid()}")
    with new.open("wb") as file:
        np.savez(file, facts=np.frombuffer(orjson.dumps(result.facts), dtype=np.uint8), probability=result.probability)
    new.rename(path)


def _file(folder: Path, cutoff: datetime, until: datetime) -> Path:
    return folder / f"{cutoff:%Y%m%dT%H%M%S%f}-{until:%Y%m%d}.npz"


def _finished(folder: Path, until: Mapping[datetime, datetime]) -> tuple[dict[datetime, Any], dict[datetime, Any]]:
    facts, probabilities = {}, {}
    for moment in until:
        with np.load(_file(folder, moment, until[moment])) as stored:
            facts[moment], probabilities[moment] = orjson.loads(stored["facts"].tobytes()), stored["probability"]
    return facts, probabilities


def print_result(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the result of `walk_forward` as tables or as JSON."""
    if as_json:
        print_json(result)
        return
    shown = {"ROC AUC": "roc_auc", "log loss": "log_loss"}
    table = Table("cutoff", "bids", *(f"{name}: {side}" for side in ("expected", "later") for name in shown))
    table.title, table.title_justify = _FORECASTS, "left"
    for facts in result["steps"]:
        if "not_trained" in facts:
            table.add_row(facts["cutoff"][:10], f"{facts['rows']:,}", facts["not_trained"])
            continue
        forecast, later = facts["performance_forecast"] or {}, facts["later"]
        expected = [_with_interval(**forecast[name]) if forecast else "–" for name in shown.values()]
        realized = [_with_interval(later[name], later["intervals"][name]) for name in shown.values()]
        table.add_row(facts["cutoff"][:10], f"{facts['rows']:,}", *expected, *realized)
    console.print(table)
    table = Table("metric", "cutoffs", "later within the forecast", "within the holdout's interval", "bias")
    for metric, coverage in result["coverage"].items():
        shares = ["" if coverage[name] is None else f"{coverage[name]:.0%}" for name in ("within", "within_holdout")]
        table.add_row(metric, str(coverage["steps"]), *shares, "" if coverage["bias"] is None else f"{coverage['bias']:+.4f}")
    console.print(table)
    if result["policies"]:
        table = Table("policy", "trainings", "training time", "log loss", "on bids")
        for name, costs in result["policies"].items():
            loss = "" if costs["log_loss"] is None else f"{costs['log_loss']:.4f}"
            table.add_row(name, str(costs["trainings"]), f"{costs['training_seconds']:.0f} s", loss, f"{costs['bids']:,}")
        console.print(table)
    console.print(f"Picture: {result['picture']}")


def _with_interval(expected: float | None, interval: Sequence[float] | None) -> str:
    if expected is None:
        return "–"
    return f"{expected:.3f}" if interval is None else f"{expected:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
