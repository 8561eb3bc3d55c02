"""Walking forward over history: at each cutoff a model of what was known then, judged by itself then and by the bids that came.

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
from bid_assets.common.windows import Cadence, as_utc
from bid_assets.features.family import FeatureFamily
from bid_assets.features.interval_counts import microseconds
from bid_assets.modelling.dataset.assemble import assemble, effective_outcomes, labels, of_split, submitted_between
from bid_assets.modelling.dataset.assemble import facts as about
from bid_assets.modelling.dataset.label_maturity import settled
from bid_assets.modelling.dataset.splits import LabelRules
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.bootstrap import FIGURES, intervals
from bid_assets.modelling.evaluation.metrics import Probabilities
from bid_assets.modelling.evaluation.performance_forecast import outlook
from bid_assets.modelling.parameters import TrainingParameters
from bid_assets.modelling.training import NotTrainableError, train

RESAMPLES = 500
_EVER = datetime(9999, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Method:
    """How models are made at every cutoff."""

    parameters: TrainingParameters
    lookback: timedelta
    cadence: Cadence
    holdout_share: float
    rules: LabelRules


@dataclass(frozen=True, eq=False)
class History:
    """All tables of the walk: `bids` and `outcomes` as read, features of all bids, and `judged`, which `judged_bids` makes."""

    bids: pa.Table
    outcomes: pa.Table
    features: Mapping[str, pa.Table]
    judged: pa.Table


@dataclass(frozen=True, eq=False)
class Step:
    """What came of one cutoff: facts (JSON-able) and the model's probability of every judged bid from the cutoff on."""

    facts: dict[str, Any]
    probability: Probabilities
    """Empty where no model could be trained."""


def judged_bids(
    bids: pa.Table,
    outcomes: pa.Table,
    features: Sequence[tuple[FeatureFamily, pa.Table]],
    *,
    cadence: Cadence,
    rules: LabelRules,
) -> pa.Table:
    """Every bid that may judge: with its last known outcome and its features, in order of submission.

    Only bids that are mature at the newest outcome: among younger ones mostly the successes are known. A maturity that is to be
    learnt is learnt from all bids here, with all that has become known of them.
    """
    rules = settled(rules, bids, effective_outcomes(outcomes, None))
    table = assemble(bids, outcomes, features, cutoff=_EVER, holdout_share=0, cadence=cadence, rules=rules)
    newest = pc.max(table["outcome_timestamp"]).as_py()
    if newest is None:
        return table
    return table.filter(pc.less(table["submitted_at"], pa.scalar(newest - rules.known_maturity, TIME)))


def step(
    history: History,
    families: Sequence[FeatureFamily],
    method: Method,
    cutoff: datetime,
    until: datetime,
    encoder_fingerprint: str | None = None,
) -> Step:
    """Train at `cutoff` as the loop would; the model's own estimate on its holdout, and its true score on bids until `until`.

    Facts: `cutoff`, `until`, `seconds` (of assembling and training), `rows`, `label_maturity_days`, `estimate` and `later` (each: `rows`, figures,
    `intervals`), `outlook` (what the estimate foretells, see there), `not_trained` (why there is no model; then there is nothing else).
    """
    cutoff = as_utc(cutoff)
    began = time.perf_counter()
    past = submitted_between(history.bids, cutoff - method.lookback, cutoff)
    dataset = assemble(
        past,
        history.outcomes,
        [(family, history.features[family.name]) for family in families],
        cutoff=cutoff,
        holdout_share=method.holdout_share,
        cadence=method.cadence,
        rules=method.rules,
    )
    facts: dict[str, Any] = {
        "cutoff": cutoff.isoformat(),
        "until": as_utc(until).isoformat(),
        "rows": dataset.num_rows,
        "label_maturity_days": about(past, dataset)["label_maturity_days"],
    }
    try:
        model = train(dataset, method.parameters, encoder_fingerprint)
    except NotTrainableError as reason:
        return Step({**facts, "seconds": time.perf_counter() - began, "not_trained": str(reason)}, np.empty(0))
    facts["seconds"] = time.perf_counter() - began
    rarer_is_success = metrics.success_is_rarer(labels(of_split(dataset, "train")))
    holdout = of_split(dataset, "holdout")
    future = history.judged.slice(first_from(history.judged, cutoff))
    probability = model.predict(future)
    following = first_from(future, until)
    judging = (model.holdout_model or model).predict(holdout)
    return Step(
        {
            **facts,
            "estimate": _figures(holdout, judging, rarer_is_success),
            "outlook": outlook(dataset, judging, rarer_is_success, resamples=RESAMPLES),
            "later": _figures(future.slice(0, following), probability[:following], rarer_is_success),
        },
        probability,
    )


def coverage(steps: Sequence[Mapping[str, Any]], figure: str, *, least: int = 10) -> dict[str, Any]:
    """How well was foretold: over all steps with both classes in `later`, and in the holdout, at least `least` times.

    `within`: share of steps where the later figure agrees with the outlook: their difference lies in its own 95 % interval, since
    the later figure, of some windows only, is uncertain as well. `within_holdout`: the same for what the holdout shows, as if
    all outcomes were known and nothing but its sampling were uncertain. `bias`: mean of later minus expected.
    """
    compared = [_foretold(facts, figure) for facts in steps if _comparable(facts, figure, least)]
    if not compared:
        return {"steps": 0, "within": None, "within_holdout": None, "bias": None}
    within, within_holdout, bias = np.mean(compared, axis=0).tolist()
    return {"steps": len(compared), "within": within, "within_holdout": within_holdout, "bias": bias}


def _foretold(facts: Mapping[str, Any], figure: str) -> tuple[bool, bool, float]:
    """Of one step: whether the later figure agrees with the outlook, and with the holdout; by how much it missed the outlook."""
    later, estimate, foretold = ((facts[side][figure]) for side in ("later", "estimate", "outlook"))
    of_later, of_estimate = (facts[side]["intervals"][figure] for side in ("later", "estimate"))
    return (
        agree(foretold["expected"], foretold["interval"], later, of_later),
        agree(estimate, of_estimate, later, of_later),
        later - foretold["expected"],
    )


def agree(one: float, of_one: Sequence[float], other: float, of_other: Sequence[float]) -> bool:
    """Whether two independent figures with 95 % intervals differ by no more than chance.

    The interval of the difference is made of the ends that face each other (MOVER: Zou, Donner: Construction of confidence limits about
    effect measures, Statistics in Medicine 27, 2008): intervals are not symmetric.
    """
    if other < one:
        return agree(other, of_other, one, of_one)
    return bool(other - one <= np.hypot(of_one[1] - one, other - of_other[0]))


def first_from(rows: pa.Table, moment: datetime) -> int:
    """The number of the first row submitted at `moment` or later; rows are in order of submission."""
    at = (as_utc(moment) - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
    return int(np.searchsorted(microseconds(rows["submitted_at"]), at))


def _figures(rows: pa.Table, probability: Probabilities, rarer_is_success: bool) -> dict[str, Any]:
    success = labels(rows)
    found = {
        **metrics.ranking(success, probability, rarer_is_success),
        **metrics.probability_metrics(success, probability),
    }
    profiles = rows["profile_id"].to_numpy()
    return {
        "rows": len(success),
        "successes": int(success.sum()),
        **{name: found[name] for name in FIGURES},
        "intervals": intervals(success, probability, profiles, rarer_is_success, resamples=RESAMPLES),
    }


def _comparable(facts: Mapping[str, Any], figure: str, least: int) -> bool:
    if facts.get("outlook") is None:
        return False
    sides = [facts[name] for name in ("estimate", "later")]
    found = [*(side["intervals"][figure] for side in sides), facts["outlook"][figure]["interval"]]
    return None not in found and all(min(side["successes"], side["rows"] - side["successes"]) >= least for side in sides)
