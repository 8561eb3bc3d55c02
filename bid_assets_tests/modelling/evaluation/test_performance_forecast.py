from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.contract import TIME
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.bootstrap import intervals
from bid_assets.modelling.evaluation.performance_forecast import (
    METRICS,
    MIN_PROBABILITY,
    between_period_sd_posterior,
    forecast_performance,
    reporting_delay_weights,
)
from bid_assets_tests.modelling.scorers import sigmoid

DAY = timedelta(days=1) // timedelta(microseconds=1)
WEEKS = 52

moments = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), min_size=1, max_size=60)


def dataset(
    failure_rates: list[float], seed: int = 0, bids: int = 4000, failures_take: float = 1.0
) -> tuple[pa.Table, np.ndarray]:
    """Bids of a year, whose share of failures changes from quarter to quarter, with what is known at its end; and what
    a model says."""
    random = np.random.default_rng(seed)
    submitted = np.sort(random.random(bids)) * WEEKS * 7
    rate = np.array(failure_rates)[(submitted * len(failure_rates) // (WEEKS * 7)).astype(int)]
    hint = random.standard_normal(bids)
    success = random.random(bids) < sigmoid(np.log((1 - rate) / rate) + hint)
    known = submitted + np.where(success, 0.5, failures_take) * random.exponential(size=bids)
    seen = known < WEEKS * 7
    split = np.where(submitted < 0.8 * WEEKS * 7, "train", "holdout")
    columns = {
        "submitted_at": pa.array((submitted[seen] * DAY).astype(np.int64)).cast(TIME),
        "outcome_timestamp": pa.array((known[seen] * DAY).astype(np.int64)).cast(TIME),
        "target_is_success": pa.array(success[seen]),
        "profile_id": pa.array([f"p{n}" for n in random.integers(300, size=bids)[seen]]),
        "split": pa.array(split[seen]),
    }
    return pa.table(columns), sigmoid(np.log(0.8 / 0.2) + hint)[seen & (split == "holdout")]


def wide(interval: list[float]) -> float:
    return interval[1] - interval[0]


@given(moments)
def test_a_bid_older_than_all_delays_weighs_one_and_no_bid_less(drawn: list[tuple[int, int, bool]]) -> None:
    submitted, delay = (np.array([row[n] for row in drawn], dtype=np.int64) * DAY for n in (0, 1))
    success = np.array([row[2] for row in drawn])
    weights = reporting_delay_weights(submitted, submitted + delay, success)
    age = (submitted + delay).max() - submitted
    assert np.all((weights >= 1) & (weights <= 1 / MIN_PROBABILITY))
    for kind in (success, ~success):
        slowest = delay[kind].max(initial=0)
        assert np.all(weights[kind & (age >= slowest)] == 1)


@pytest.mark.parametrize("seed", range(3))
def test_failures_that_are_not_known_yet_are_counted_through_those_that_are(seed: int) -> None:
    table, _ = dataset([0.3], seed, failures_take=60)
    submitted, known = (np.asarray(table[name].cast(pa.int64())) for name in ("submitted_at", "outcome_timestamp"))
    success = np.asarray(table["target_is_success"])
    young = submitted > (WEEKS * 7 - 60) * DAY
    weights = reporting_delay_weights(submitted, known, success)
    failed = np.average(~success[young], weights=weights[young])
    resolve_maturity = (~success[submitted < 200 * DAY]).mean()
    assert failed == pytest.approx(resolve_maturity, abs=0.06)
    assert (~success[young]).mean() < resolve_maturity - 0.08


def test_periods_that_are_alike_make_a_small_standard_deviation_and_unlike_ones_a_large_one() -> None:
    steady, _ = dataset([0.2])
    seasons, _ = dataset([0.05, 0.3, 0.05, 0.3])
    small, large = (forecast_performance(table, np.full(held(table), 0.8), False, resamples=50) for table in (steady, seasons))
    assert small is not None
    assert large is not None
    assert small["between_period_sd"] < 0.25 < 0.5 < large["between_period_sd"]


def held(table: pa.Table) -> int:
    return int((np.asarray(table["split"]) == "holdout").sum())


def test_variation_between_periods_widens_what_hangs_on_the_share_of_failures_and_leaves_the_ranking() -> None:
    table, probability = dataset([0.1, 0.35, 0.1, 0.35])
    found = forecast_performance(table, probability, rarer_is_success=False)
    assert found is not None
    holdout = table.filter(pa.array(np.asarray(table["split"]) == "holdout"))
    alone = intervals(np.asarray(holdout["target_is_success"]), probability, holdout["profile_id"].to_numpy(), False)
    for name in ("log_loss", "brier", "average_precision_rarer"):
        assert wide(found[name]["interval"]) > 1.5 * wide(alone[name] or [])
    assert wide(found["roc_auc"]["interval"]) == pytest.approx(wide(alone["roc_auc"] or []), rel=0.15)


def test_where_all_is_known_the_expected_metrics_are_those_of_the_holdout() -> None:
    table, probability = dataset([0.2], failures_take=0.01)
    table = table.set_column(1, "outcome_timestamp", table["submitted_at"])
    found = forecast_performance(table, probability, rarer_is_success=False)
    success = np.asarray(table["target_is_success"])[np.asarray(table["split"]) == "holdout"]
    expected = {**metrics.ranking_metrics(success, probability, False), **metrics.probability_metrics(success, probability)}
    assert found is not None
    assert found["success_rate"]["expected"] == pytest.approx(success.mean())
    assert {name: found[name]["expected"] for name in METRICS} == pytest.approx({name: expected[name] for name in METRICS})


def test_it_is_json_and_the_same_for_the_same_seed() -> None:
    table, probability = dataset([0.1, 0.3])
    found = forecast_performance(table, probability, rarer_is_success=False, resamples=100)
    assert json.loads(json.dumps(found, allow_nan=False)) == forecast_performance(
        table, probability, rarer_is_success=False, resamples=100
    )
    assert set(found or {}) == {*METRICS, "success_rate", "between_period_sd"}


def test_without_both_classes_there_is_nothing_to_expect() -> None:
    table, probability = dataset([0.2])
    failed = pa.array(np.zeros(table.num_rows, dtype=bool))
    assert forecast_performance(table.set_column(2, "target_is_success", failed), probability, rarer_is_success=False) is None


def test_a_single_period_leaves_what_was_believed_before() -> None:
    alone = between_period_sd_posterior(np.array([-1.0]), np.array([0.1]))
    assert alone == pytest.approx(between_period_sd_posterior(np.empty(0), np.empty(0)))
    assert alone.sum() == pytest.approx(1)
