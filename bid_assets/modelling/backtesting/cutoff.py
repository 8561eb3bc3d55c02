"""Backtest at one cutoff: trained on what was known at a moment, evaluated on the bids from then on.

Imports XGBoost and scikit-learn: import this module only where a backtest is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.windows import Cadence, as_utc
from bid_assets.features.family import FeatureFamily
from bid_assets.modelling.dataset.assemble import assemble, labels, rows_in_split, submitted_between
from bid_assets.modelling.dataset.splits import NO_MATURITY, LabelRules
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.bootstrap import METRICS
from bid_assets.modelling.evaluation.report import history_baseline, profile_rate_baseline
from bid_assets.modelling.parameters import TrainingParameters
from bid_assets.modelling.training import train

_EVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class TrainTestRows:
    """The datasets of one backtest, with labels: what a model learns from, and the later bids that it is evaluated on."""

    train: pa.Table
    test: pa.Table
    train_undecided: int
    """Bids without a label, left out."""
    test_undecided: int


def backtest(
    bids: pa.Table,
    outcomes: pa.Table,
    features: Sequence[tuple[FeatureFamily, pa.Table]],
    *,
    cutoff: datetime,
    lookback: timedelta,
    seeds: int,
    parameters: TrainingParameters,
    cadence: Cadence,
    end: datetime | None = None,
    rules: LabelRules = NO_MATURITY,
    encoder_fingerprint: str | None = None,
) -> dict[str, Any]:
    """Metrics of models of the rows that `train_test_rows` gives: trained before `cutoff`, evaluated on the bids from then on.

    Seeds `parameters.seed`, + 1, ... give mean and (population) standard deviation of each metric of `METRICS`;
    `baselines` holds the same metrics of the three baselines of a report, which have no seed.
    Raises `NotTrainableError`, and `ValueError` where no later bid is decided.
    """
    rows = train_test_rows(bids, outcomes, features, cutoff=cutoff, lookback=lookback, cadence=cadence, end=end, rules=rules)
    known, success = labels(rows_in_split(rows.train, "train")), labels(rows.test)
    rarer_is_success = metrics.success_is_rarer(known)
    runs, rounds = [], []
    for seed in range(parameters.seed, parameters.seed + seeds):
        model = train(rows.train, replace(parameters, seed=seed), encoder_fingerprint)
        runs.append(metrics.all_metrics(success, model.predict(rows.test), model.threshold, rarer_is_success))
        rounds.append(model.training["rounds"])
    return {
        "cutoff": as_utc(cutoff).isoformat(),
        "lookback_days": lookback.days,
        "seeds": seeds,
        **{name: _mean_and_std([run[name] for run in runs]) for name in METRICS},
        "rarer_class": "success" if rarer_is_success else "failure",
        "rounds": rounds,
        "train_rows": rows.train.num_rows,
        "test_rows": rows.test.num_rows,
        "train_undecided": rows.train_undecided,
        "test_undecided": rows.test_undecided,
        "train_label_rate": float(known.mean()),
        "test_label_rate": float(success.mean()),
        "test_until": pc.max(rows.test["submitted_at"]).as_py().isoformat(),
        "baselines": _baselines(rows.train, rows.test, known.mean(), success, rarer_is_success),
    }


def train_test_rows(
    bids: pa.Table,
    outcomes: pa.Table,
    features: Sequence[tuple[FeatureFamily, pa.Table]],
    *,
    cutoff: datetime,
    lookback: timedelta,
    cadence: Cadence,
    end: datetime | None = None,
    rules: LabelRules = NO_MATURITY,
) -> TrainTestRows:
    """Train rows: the bids of [cutoff - lookback, cutoff) decided before it, by `rules`. Test rows: those of [cutoff, end).

    A test bid's label is its latest outcome known at all. `end` None: every later bid. Undecided bids are left out of both
    sides and counted. Raises `ValueError` where no later bid is decided.
    """
    cutoff, end = as_utc(cutoff), _EVER if end is None else as_utc(end)
    past, future = submitted_between(bids, cutoff - lookback, cutoff), submitted_between(bids, cutoff, end)
    train_rows = assemble(
        past,
        outcomes,
        features,
        cutoff=cutoff,
        holdout_share=0,
        cadence=cadence,
        rules=rules,
    )
    test_rows = assemble(future, outcomes, features, cutoff=_EVER, holdout_share=0, cadence=cadence)
    if not test_rows.num_rows:
        until = "on" if end == _EVER else f"to {end.isoformat()}"
        raise ValueError(f"no bid submitted from {cutoff.isoformat()} {until} has an outcome: there is nothing to evaluate on")
    return TrainTestRows(train_rows, test_rows, past.num_rows - train_rows.num_rows, future.num_rows - test_rows.num_rows)


def mean_over_cutoffs(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean over cutoffs of each metric of `METRICS`, as `backtest` gives it, and of the baselines that every cutoff has.

    A cutoff where a metric could not be computed does not count for that metric; None where no cutoff has it.
    """
    common = [name for name in results[0]["baselines"] if all(name in result["baselines"] for result in results)]
    return {
        **{metric: _mean_and_std([result[metric]["mean"] for result in results])["mean"] for metric in METRICS},
        "baselines": {
            name: {
                metric: _mean_and_std([result["baselines"][name][metric] for result in results])["mean"] for metric in METRICS
            }
            for name in common
        },
    }


def _baselines(
    train_rows: pa.Table, test_rows: pa.Table, rate: float, success: metrics.Labels, rarer_is_success: bool
) -> dict[str, dict[str, float | None]]:
    """The metrics of the base rate, of each profile's own rate, and of history-only logistic regression."""
    baselines: dict[str, tuple[metrics.Probabilities, float] | None] = {
        "base_rate": (np.full(len(success), rate), 0.5),
        "profile_success_rate": profile_rate_baseline(train_rows, test_rows, rarer_is_success),
        "history_logistic_regression": history_baseline(train_rows, test_rows, rarer_is_success),
    }
    return {
        name: _selected_metrics(metrics.all_metrics(success, *scores, rarer_is_success))
        for name, scores in baselines.items()
        if scores is not None
    }


def _selected_metrics(values: dict[str, Any]) -> dict[str, float | None]:
    return {name: values[name] for name in METRICS}


def _mean_and_std(values: list[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation; None where a metric could not be computed."""
    known = [value for value in values if value is not None]
    return {"mean": float(np.mean(known)), "std": float(np.std(known))} if known else {"mean": None, "std": None}
