from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.common.windows import Cadence
from bid_assets.modelling.backtesting.retraining_policies import evaluate_policy, policy_cutoffs
from bid_assets_tests.modelling.market import Market, day

START, END = day(14), day(70)
KNOWN = np.array([int(day(n).timestamp() * 1e6) for n in range(100)])


@pytest.mark.parametrize(("policy", "count"), [("never", 1), ("daily", 56), ("weekly", 8), ("monthly", 2)])
def test_a_period_gives_a_cutoff_at_the_start_of_each(policy: str, count: int) -> None:
    moments = policy_cutoffs(policy, START, END, KNOWN)
    assert len(moments) == count
    assert moments[0] == START
    assert max(moments) < END


def test_every_so_many_outcomes_trains_just_after_the_last_of_them() -> None:
    moments = policy_cutoffs("every:10", START, END, KNOWN)
    assert moments[1:3] == [day(23) + timedelta(microseconds=1), day(33) + timedelta(microseconds=1)]


@given(st.integers(1, 60))
def test_property_between_two_cutoffs_exactly_so_many_outcomes_become_known(count: int) -> None:
    moments = policy_cutoffs(f"every:{count}", START, END, KNOWN)
    at = [int(moment.timestamp() * 1e6) for moment in moments]
    assert all(((low <= KNOWN) & (high > KNOWN)).sum() == count for low, high in zip(at[:-1], at[1:], strict=True))


@pytest.mark.parametrize("word", ["yearly", "every:0", "every:x", "every"])
def test_another_word_is_refused_and_the_known_ones_are_named(word: str) -> None:
    with pytest.raises(ValueError, match="never, daily, weekly, monthly, every:K"):
        policy_cutoffs(word, START, END, KNOWN)


@pytest.fixture(scope="module")
def evaluated(a_market: Market) -> pa.Table:
    return a_market.dataset(holdout_share=0.2)


def test_each_bid_costs_what_the_newest_model_before_it_says(evaluated: pa.Table) -> None:
    second = day(42)
    at = np.searchsorted(np.array(evaluated["submitted_at"].to_pylist()), [START, second, END])  # type: ignore[arg-type]
    good = np.where(np.asarray(evaluated["target_is_success"])[at[1] :], 0.9, 0.1)
    probabilities = {START: np.full(evaluated.num_rows - at[0], 0.5), second: good}
    found = evaluate_policy(evaluated, [START, second], END, probabilities, {START: 2.0, second: 3.0}, Cadence.WEEKLY)
    early, late = at[1] - at[0], at[2] - at[1]
    assert found["log_loss"] == pytest.approx((early * np.log(2) - late * np.log(0.9)) / (early + late))
    assert (found["trainings"], found["training_seconds"], found["bids"]) == (2, 5.0, early + late)
    assert sum(row["bids"] for row in found["by_window"]) == found["bids"]


def test_where_a_cutoff_gives_no_model_the_one_before_stays(evaluated: pa.Table) -> None:
    at = np.searchsorted(np.array(evaluated["submitted_at"].to_pylist()), [START, END])  # type: ignore[arg-type]
    probabilities = {START: np.full(evaluated.num_rows - at[0], 0.5), day(42): np.empty(0)}
    found = evaluate_policy(evaluated, [START, day(42)], END, probabilities, {START: 2.0, day(42): 0.1}, Cadence.WEEKLY)
    assert found["log_loss"] == pytest.approx(np.log(2))
    assert found["trainings"] == 1
