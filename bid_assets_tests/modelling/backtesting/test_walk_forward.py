from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.common.windows import Cadence
from bid_assets.modelling.backtesting.walk_forward import (
    BacktestTables,
    CutoffResult,
    Method,
    coverage,
    difference_within_error,
    evaluate_cutoff,
    evaluation_bids,
    first_from,
)
from bid_assets.modelling.dataset.splits import LabelRules
from bid_assets_tests.features.tables import outcomes_table
from bid_assets_tests.modelling.conftest import QUICK
from bid_assets_tests.modelling.market import Market, day

CUTOFF, UNTIL = day(120), day(150)
RULES = LabelRules(maturity=timedelta(days=10))
METHOD = Method(QUICK, timedelta(days=365), Cadence.WEEKLY, holdout_share=0.2, rules=RULES)

FORECAST = "performance_forecast"


def history(market: Market, outcomes: pa.Table | None = None) -> BacktestTables:
    outcomes = market.outcomes if outcomes is None else outcomes
    evaluated = evaluation_bids(market.bids, outcomes, market.features, cadence=Cadence.WEEKLY, rules=RULES)
    return BacktestTables(market.bids, outcomes, {family.name: rows for family, rows in market.features}, evaluated)


def walked(made: BacktestTables, market: Market) -> CutoffResult:
    return evaluate_cutoff(made, [family for family, _ in market.features], METHOD, CUTOFF, UNTIL)


@pytest.fixture(scope="module")
def made(a_market: Market) -> CutoffResult:
    return walked(history(a_market), a_market)


def test_a_step_has_the_models_own_estimate_and_its_later_score_as_json(made: CutoffResult) -> None:
    facts = json.loads(json.dumps(made.facts, allow_nan=False))
    for side in ("estimate", "later"):
        assert facts[side]["intervals"]["roc_auc"][0] < facts[side]["roc_auc"] < facts[side]["intervals"]["roc_auc"][1]
    assert facts[FORECAST]["roc_auc"]["interval"][0] < facts[FORECAST]["roc_auc"]["expected"]
    assert facts["seconds"] > 0


def test_later_are_the_bids_until_the_next_cutoff(a_market: Market, made: CutoffResult) -> None:
    evaluated = history(a_market).evaluation_bids
    assert made.facts["later"]["rows"] == first_from(evaluated, UNTIL) - first_from(evaluated, CUTOFF)
    assert len(made.probability) == evaluated.num_rows - first_from(evaluated, CUTOFF)


def test_what_becomes_known_after_the_cutoff_changes_no_estimate(a_market: Market, made: CutoffResult) -> None:
    flipped = outcomes_table([(f"x{bid}", bid, False, 24 * 160) for bid in a_market.bids["id"].to_pylist()])
    other = walked(history(a_market, pa.concat_tables([a_market.outcomes, flipped])), a_market)
    assert [other.facts[name] for name in ("estimate", FORECAST)] == [made.facts[name] for name in ("estimate", FORECAST)]
    assert other.facts["later"] != made.facts["later"]


def test_a_cutoff_with_too_little_before_it_says_why_there_is_no_model(a_market: Market) -> None:
    families = [family for family, _ in a_market.features]
    early = evaluate_cutoff(history(a_market), families, METHOD, day(5), day(10))
    assert "labelled bids" in early.facts["not_trained"]
    assert len(early.probability) == 0


def test_only_mature_bids_evaluate(a_market: Market) -> None:
    evaluated = history(a_market).evaluation_bids
    newest = pc.max(a_market.outcomes["outcome_timestamp"]).as_py()
    assert pc.max(evaluated["submitted_at"]).as_py() < newest - RULES.maturity


def side(value: float, low: float, high: float, successes: int = 50) -> dict:
    return {"rows": 100, "successes": successes, "roc_auc": value, "intervals": {"roc_auc": [low, high]}}


def foretold(value: float, low: float, high: float) -> dict:
    return {"roc_auc": {"expected": value, "interval": [low, high]}}


def test_coverage_counts_both_errors_and_says_what_the_holdout_alone_would_cover() -> None:
    near = {
        "estimate": side(0.7, 0.69, 0.71),
        FORECAST: foretold(0.7, 0.65, 0.75),
        "later": side(0.77, 0.71, 0.83),
    }
    far = {"estimate": side(0.7, 0.69, 0.71), FORECAST: foretold(0.7, 0.65, 0.75), "later": side(0.9, 0.84, 0.96)}
    found = coverage([near, far, {"not_trained": "too little"}], "roc_auc")
    assert (found["steps"], found["within"], found["within_holdout"]) == (2, 0.5, 0.0)
    assert found["bias"] == pytest.approx(0.135)


def test_steps_with_hardly_any_of_a_class_and_those_without_a_forecast_do_not_count() -> None:
    few = {
        "estimate": side(0.7, 0.6, 0.8),
        FORECAST: foretold(0.7, 0.6, 0.8),
        "later": side(0.9, 0.84, 0.96, successes=3),
    }
    none = {"estimate": side(0.7, 0.6, 0.8), FORECAST: None, "later": side(0.9, 0.84, 0.96)}
    assert coverage([few, none], "roc_auc") == {"steps": 0, "within": None, "within_holdout": None, "bias": None}


def test_metrics_agree_by_the_ends_of_their_intervals_that_face_each_other() -> None:
    assert difference_within_error(0.3, [0.29, 0.5], 0.45, [0.44, 0.46])
    assert not difference_within_error(0.3, [0.1, 0.31], 0.45, [0.44, 0.46])
    assert difference_within_error(0.45, [0.44, 0.46], 0.3, [0.29, 0.5])


def test_the_first_bid_from_a_moment_on_is_found(a_market: Market) -> None:
    times = a_market.bids["submitted_at"].to_pylist()
    assert first_from(a_market.bids, CUTOFF) == int(np.searchsorted(np.array(times), CUTOFF))  # type: ignore[arg-type]
