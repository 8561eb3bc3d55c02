from __future__ import annotations

import json
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.common.windows import Cadence
from bid_assets.modelling.backtesting.cutoff import METRICS, backtest, mean_over_cutoffs
from bid_assets.modelling.parameters import NotTrainableError
from bid_assets_tests.features.tables import outcomes_table
from bid_assets_tests.modelling.conftest import QUICK
from bid_assets_tests.modelling.market import Market, day

T = day(140)


def run(
    market: Market,
    cutoff: datetime = T,
    lookback: float = 365,
    seeds: int = 2,
    outcomes: pa.Table | None = None,
    end: datetime | None = None,
) -> dict:
    return backtest(
        market.bids,
        market.outcomes if outcomes is None else outcomes,
        market.features,
        cutoff=cutoff,
        lookback=timedelta(days=lookback),
        seeds=seeds,
        parameters=QUICK,
        cadence=Cadence.WEEKLY,
        end=end,
    )


def test_metrics_come_with_mean_and_spread_over_seeds_as_json(a_market: Market) -> None:
    result = json.loads(json.dumps(run(a_market), allow_nan=False))
    for name in ("roc_auc", "average_precision_rarer", "log_loss", "calibration_error"):
        assert set(result[name]) == {"mean", "std"}
    assert result["roc_auc"]["mean"] > 0.75
    assert result["roc_auc"]["std"] > 0
    assert result["baselines"]["history_logistic_regression"]["roc_auc"] < result["roc_auc"]["mean"]


def test_train_is_what_was_known_and_test_is_what_came_later(a_market: Market) -> None:
    result = run(a_market, seeds=1)
    bids = a_market.bids
    known = a_market.outcomes.filter(pc.less(a_market.outcomes["outcome_timestamp"], pa.scalar(T)))
    earlier = pc.sum(pc.less(bids["submitted_at"], pa.scalar(T))).as_py()
    assert result["train_rows"] == known.num_rows
    assert result["train_undecided"] == earlier - known.num_rows > 0
    assert result["test_rows"] == bids.num_rows - earlier


def test_an_outcome_that_becomes_known_later_changes_no_training_row(a_market: Market) -> None:
    corrected = outcomes_table([("late", a_market.bids["id"][0].as_py(), False, 24 * 500)])
    before, after = run(a_market, seeds=1), run(a_market, seeds=1, outcomes=pa.concat_tables([a_market.outcomes, corrected]))
    assert before == after


def test_the_look_back_bounds_training_only(a_market: Market) -> None:
    wide, narrow = run(a_market, seeds=1), run(a_market, lookback=70, seeds=1)
    assert narrow["train_rows"] < wide["train_rows"]
    assert narrow["test_rows"] == wide["test_rows"]


def test_undecided_later_bids_are_counted_and_left_out(a_market: Market) -> None:
    decided = a_market.outcomes.slice(0, a_market.outcomes.num_rows - 20)
    result, full = run(a_market, seeds=1, outcomes=decided), run(a_market, seeds=1)
    assert result["test_undecided"] == 20
    assert result["test_rows"] == full["test_rows"] - 20


def test_bids_submitted_from_the_end_on_are_left_out_and_training_is_the_same(a_market: Market) -> None:
    bounded, full = run(a_market, seeds=1, end=day(160)), run(a_market, seeds=1)
    submitted = a_market.bids["submitted_at"]
    inside = pc.and_(pc.greater_equal(submitted, pa.scalar(T)), pc.less(submitted, pa.scalar(day(160))))
    assert bounded["test_rows"] == pc.sum(inside).as_py() < full["test_rows"]
    assert bounded["test_until"] < day(160).isoformat() < full["test_until"]
    assert bounded["train_rows"] == full["train_rows"]
    with pytest.raises(ValueError, match="nothing to evaluate on"):
        run(a_market, end=T)


def test_the_mean_over_cutoffs_counts_each_cutoff_once_and_skips_what_a_cutoff_lacks(a_market: Market) -> None:
    results = [run(a_market, cutoff=day(number), seeds=1) for number in (120, 150)]
    mean = mean_over_cutoffs(results)
    assert mean["log_loss"] == pytest.approx(sum(result["log_loss"]["mean"] for result in results) / 2)
    assert set(mean["baselines"]) == set(results[0]["baselines"])
    base_rates = [result["baselines"]["base_rate"]["log_loss"] for result in results]
    assert mean["baselines"]["base_rate"]["log_loss"] == pytest.approx(sum(base_rates) / 2)
    nothing = {**results[0], "roc_auc": {"mean": None, "std": None}}
    assert mean_over_cutoffs([nothing, results[1]])["roc_auc"] == results[1]["roc_auc"]["mean"]
    assert set(METRICS) < set(mean)


def test_a_moment_after_the_last_bid_has_nothing_to_evaluate_on(a_market: Market) -> None:
    with pytest.raises(ValueError, match="nothing to evaluate on"):
        run(a_market, cutoff=day(300))


def test_a_moment_before_there_was_enough_is_not_trainable(a_market: Market) -> None:
    with pytest.raises(NotTrainableError, match="labelled bids"):
        run(a_market, cutoff=day(8))
