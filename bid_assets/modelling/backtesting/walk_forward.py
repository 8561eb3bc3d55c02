"""Walk-forward backtest: at each cutoff a model of what was known then, with its own estimate and its realized performance.

Each cutoff is a task of its own: nothing is shared but the tables, so tasks run side by side and in any order. Imports XGBoost
and scikit-learn: import this module only where a backtest is run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TIME
from bid_assets.common.arrow import microseconds
from bid_assets.common.windows import Cadence, as_utc, microseconds_since_epoch
from bid_assets.features.family import FeatureFamily
from bid_assets.modelling.dataset.assemble import (
    assemble,
    dataset_facts,
    effective_outcomes,
    labels,
    rows_in_split,
    submitted_between,
)
from bid_assets.modelling.dataset.label_maturity import resolve_maturity
from bid_assets.modelling.dataset.splits import LabelRules
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.bootstrap import METRICS, intervals
from bid_assets.modelling.evaluation.metrics import Probabilities
from bid_assets.modelling.evaluation.performance_forecast import forecast_performance
from bid_assets.modelling.parameters import NotTrainableError, TrainingParameters
from bid_assets.modelling.training import train

RESAMPLES = 500
_EVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Method:
    """How models are made at every cutoff."""

    parameters: TrainingParameters
    lookback: timedelta
    cadence: Cadence
    holdout_share: float
    rules: LabelRules


@dataclass(frozen=True, eq=False)
class BacktestTables:
    """All tables of the backtest: `bids` and `outcomes` as read, features of all bids, and the result of `evaluation_bids`."""

    bids: pa.Table
    outcomes: pa.Table
    features: Mapping[str, pa.Table]
    evaluation_bids: pa.Table


@dataclass(frozen=True, eq=False)
class CutoffResult:
    """The result of one cutoff: facts (JSON-able) and the model's probability of every evaluation bid from the cutoff on."""

    facts: dict[str, Any]
    probability: Probabilities
    """Empty where no model could be trained."""


def evaluation_bids(
    bids: pa.Table,
    outcomes: pa.Table,
    features: Sequence[tuple[FeatureFamily, pa.Table]],
    *,
    cadence: Cadence,
    rules: LabelRules,
) -> pa.Table:
    """The mature bids that models are evaluated on: with their last known outcomes and features, in order of submission.

    Only bids that are mature at the newest outcome: among younger ones mostly the successes are known. A maturity that is to be
    learnt is learnt from all bids here, with all that has become known of them.
    """
    rules = resolve_maturity(rules, bids, effective_outcomes(outcomes, None))
    table = assemble(bids, outcomes, features, cutoff=_EVER, holdout_share=0, cadence=cadence, rules=rules)
    newest = pc.max(table["outcome_timestamp"]).as_py()
    if newest is None:
        return table
    return table.filter(pc.less(table["submitted_at"], pa.scalar(newest - rules.known_maturity, TIME)))


def evaluate_cutoff(
    tables: BacktestTables,
    families: Sequence[FeatureFamily],
    method: Method,
    cutoff: datetime,
    until: datetime,
    encoder_fingerprint: str | None = None,
) -> CutoffResult:
    """Train at `cutoff` as the loop would; the model's own estimate on its holdout, and its true score on bids until `until`.

    Facts: `cutoff`, `until`, `seconds` (of assembling and training), `rows`, `label_maturity_days`, `estimate` and
    `later` (each: `rows`, metrics, `intervals`), `performance_forecast` (of `forecast_performance`), `not_trained` (why there
    is no model; then there is nothing else).
    """
    cutoff = as_utc(cutoff)
    began = time.perf_counter()
    past = submitted_between(tables.bids, cutoff - method.lookback, cutoff)
    features = [(family, tables.features[family.name]) for family in families]
    options: dict[str, Any] = {"holdout_share": method.holdout_share, "cadence": method.cadence, "rules": method.rules}
    dataset = assemble(past, tables.outcomes, features, cutoff=cutoff, **options)
    facts: dict[str, Any] = {
        "cutoff": cutoff.isoformat(),
        "until": as_utc(until).isoformat(),
        "rows": dataset.num_rows,
        "label_maturity_days": dataset_facts(past, dataset)["label_maturity_days"],
    }
    try:
        model = train(dataset, method.parameters, encoder_fingerprint)
    except NotTrainableError as reason:
        return CutoffResult({**facts, "seconds": time.perf_counter() - began, "not_trained": str(reason)}, np.empty(0))
    facts["seconds"] = time.perf_counter() - began
    rarer_is_success = metrics.success_is_rarer(labels(rows_in_split(dataset, "train")))
    holdout = rows_in_split(dataset, "holdout")
    future = tables.evaluation_bids.slice(first_from(tables.evaluation_bids, cutoff))
    probability = model.predict(future)
    following = first_from(future, until)
    holdout_probability = (model.holdout_model or model).predict(holdout)
    return CutoffResult(
        {
            **facts,
            "estimate": _evaluated(holdout, holdout_probability, rarer_is_success),
            "performance_forecast": forecast_performance(dataset, holdout_probability, rarer_is_success, resamples=RESAMPLES),
            "later": _evaluated(future.slice(0, following), probability[:following], rarer_is_success),
        },
        probability,
    )


def coverage(steps: Sequence[Mapping[str, Any]], metric: str, *, least: int = 10) -> dict[str, Any]:
    """Coverage of the forecast: over all cutoffs with both classes in `later`, and in the holdout, at least `least` times.

    `within`: share of steps where the later metric agrees with the forecast: their difference lies in its own 95 %
    interval, since the later metric, of some windows only, is uncertain as well. `within_holdout`: the same for what
    the holdout shows, as if all outcomes were known and nothing but its sampling were uncertain. `bias`: mean of later
    minus expected.
    """
    compared = [_compare_with_forecast(facts, metric) for facts in steps if _comparable(facts, metric, least)]
    if not compared:
        return {"steps": 0, "within": None, "within_holdout": None, "bias": None}
    within, within_holdout, bias = np.mean(compared, axis=0).tolist()
    return {"steps": len(compared), "within": within, "within_holdout": within_holdout, "bias": bias}


def _compare_with_forecast(facts: Mapping[str, Any], metric: str) -> tuple[bool, bool, float]:
    """Of one step: whether the later metric agrees with the forecast, and with the holdout; by how much it missed the
    forecast."""
    later, estimate, forecast = ((facts[side][metric]) for side in ("later", "estimate", "performance_forecast"))
    of_later, of_estimate = (facts[side]["intervals"][metric] for side in ("later", "estimate"))
    return (
        difference_within_error(forecast["expected"], forecast["interval"], later, of_later),
        difference_within_error(estimate, of_estimate, later, of_later),
        later - forecast["expected"],
    )


def difference_within_error(one: float, of_one: Sequence[float], other: float, of_other: Sequence[float]) -> bool:
    """Whether two independent metrics with 95 % intervals differ by no more than chance.

    The interval of the difference is made of the ends that face each other (MOVER: Zou, Donner: Construction of
    confidence limits about effect measures, Statistics in Medicine 27, 2008): intervals are not symmetric.
    """
    if other < one:
        return difference_within_error(other, of_other, one, of_one)
    return bool(other - one <= np.hypot(of_one[1] - one, other - of_other[0]))


def first_from(rows: pa.Table, moment: datetime) -> int:
    """The number of the first row submitted at `moment` or later; rows are in order of submission."""
    return int(np.searchsorted(microseconds(rows["submitted_at"]), microseconds_since_epoch(as_utc(moment))))


def _evaluated(rows: pa.Table, probability: Probabilities, rarer_is_success: bool) -> dict[str, Any]:
    success = labels(rows)
    values = {
        **metrics.ranking_metrics(success, probability, rarer_is_success),
        **metrics.probability_metrics(success, probability),
    }
    profiles = rows["profile_id"].to_numpy()
    return {
        "rows": len(success),
        "successes": int(success.sum()),
        **{name: values[name] for name in METRICS},
        "intervals": intervals(success, probability, profiles, rarer_is_success, resamples=RESAMPLES),
    }


def _comparable(facts: Mapping[str, Any], metric: str, least: int) -> bool:
    if facts.get("performance_forecast") is None:
        return False
    sides = [facts[name] for name in ("estimate", "later")]
    bounds = [*(side["intervals"][metric] for side in sides), facts["performance_forecast"][metric]["interval"]]
    return None not in bounds and all(min(side["successes"], side["rows"] - side["successes"]) >= least for side in sides)
