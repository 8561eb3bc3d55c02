from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.modelling.estimators.target_statistics import (
    FOLDS,
    PRIOR_PRECISION,
    OrderedTargetStatistic,
    Profiles,
    cross_fitted_expectation,
)
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.training import train
from bid_assets_tests.modelling.conftest import QUICK

HOUR = 3_600_000_000
Bid = tuple[str, int, int, bool, float]
"""Profile, hour of submission, hours until it was decided, success, what was expected."""
bids = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 20), st.booleans(), st.floats(0.01, 0.99)),
    min_size=1,
    max_size=30,
)


def statistic_of(history: list[Bid]) -> OrderedTargetStatistic:
    profiles, hours, delays, success, expected = zip(*history, strict=True)
    submitted = np.array(hours) * HOUR
    known = submitted + np.array(delays) * HOUR
    of_rows = Profiles.from_column(pa.chunked_array([pa.array(profiles, pa.string())]))
    return OrderedTargetStatistic.from_expected(of_rows, submitted, known, np.array(success), np.array(expected))


def rating(decided: list[Bid]) -> float:
    residual = sum(success - expected for _, _, _, success, expected in decided)
    return residual / (sum(expected * (1 - expected) for *_, expected in decided) + PRIOR_PRECISION)


@given(bids)
def test_a_bid_has_the_rating_that_its_profile_had_earned_by_outcomes_known_before_it(history: list[Bid]) -> None:
    ratings = statistic_of(history)
    then, last = ratings.at_submission(), ratings.latest()
    for (profile, hour, *_), found in zip(history, then, strict=True):
        before = [bid for bid in history if bid[0] == profile and bid[1] + bid[2] < hour]
        assert found == pytest.approx(rating(before), abs=1e-9)
    for profile in {bid[0] for bid in history}:
        assert last.value_of(profile) == pytest.approx(rating([bid for bid in history if bid[0] == profile]), abs=1e-6)
    assert last.value_of("of whom nothing is known") == last.value_of(None) == 0.0


@given(bids, st.integers(0, 29))
def test_an_outcome_changes_no_rating_of_a_bid_made_before_it_was_known(history: list[Bid], which: int) -> None:
    which %= len(history)
    profile, hour, delay, success, expected = history[which]
    other = [*history[:which], (profile, hour, delay, not success, expected), *history[which + 1 :]]
    earlier = np.array([bid[1] <= hour + delay for bid in history])
    np.testing.assert_allclose(
        statistic_of(history).at_submission()[earlier],
        statistic_of(other).at_submission()[earlier],
        atol=1e-9,
    )


def test_what_is_expected_of_a_bid_does_not_hang_on_the_outcomes_of_its_profile(dataset: pa.Table) -> None:
    matrix = np.array(dataset["rate"], dtype=np.float32)[:, None]
    alike, column, profiles = np.ones(1, dtype=np.float32), np.array([0]), Profiles.from_column(dataset["profile_id"])
    theirs = np.asarray(pc.equal(dataset["profile_id"], "p0"))
    success = np.asarray(dataset["target_is_success"], dtype=bool)
    one, two = (
        cross_fitted_expectation(matrix, column, alike, profiles, labels, QUICK) for labels in (success, success ^ theirs)
    )
    np.testing.assert_array_equal(one[theirs], two[theirs])
    assert FOLDS > 1
    assert (one[~theirs] != two[~theirs]).any()


@pytest.mark.parametrize("columns", [0, 1])
@pytest.mark.parametrize("profiles", [1, 2, 40])
def test_where_nothing_can_be_told_apart_the_usual_is_expected(dataset: pa.Table, columns: int, profiles: int) -> None:
    names = pa.chunked_array([pa.array([f"p{row % profiles}" for row in range(dataset.num_rows)])])
    success = np.asarray(dataset["target_is_success"], dtype=bool)
    matrix, alike = np.zeros((dataset.num_rows, columns), dtype=np.float32), np.ones(columns, dtype=np.float32)
    expected = cross_fitted_expectation(matrix, np.arange(columns), alike, Profiles.from_column(names), success, QUICK)
    np.testing.assert_allclose(expected, success.mean(), atol=0.03)


@given(bids, st.integers(0, 30))
def test_a_block_is_scored_with_the_ratings_of_when_it_begins(history: list[Bid], begin: int) -> None:
    """As a model scores bids: its ratings grow old, and those of validation must not be newer."""
    ratings = statistic_of(history)
    for (profile, hour, *_), found in zip(history, ratings.at_submission(begin * HOUR), strict=True):
        before = [bid for bid in history if bid[0] == profile and bid[1] + bid[2] < min(hour, begin)]
        assert found == pytest.approx(rating(before), abs=1e-9)


def test_the_model_knows_the_profiles_that_it_has_learnt_from_and_no_others(model: BidSuccessModel, dataset: pa.Table) -> None:
    learnt = dataset.filter(pc.equal(dataset["split"], "train"))
    assert model.training["rated_profiles"] == pc.count_distinct(learnt["profile_id"]).as_py()


def test_a_profile_that_does_better_than_was_to_be_expected_is_thought_more_of(dataset: pa.Table) -> None:
    place, half = dataset.column_names.index("target_is_success"), pc.ends_with(dataset["profile_id"], "1")
    lucky = dataset.set_column(place, dataset.schema.field(place), pc.or_(dataset["target_is_success"], half))
    some = lucky.slice(0, 100)
    known, unknown = (
        some.set_column(1, some.schema.field(1), pa.repeat(pa.scalar(name), some.num_rows)) for name in ("p1", "nobody")
    )
    model = train(lucky, QUICK)
    assert model.predict(known).mean() > model.predict(unknown).mean() + 0.02
    unrated = train(lucky, replace(QUICK, excluded_features="profile_rating"))
    assert unrated.training["rated_profiles"] == 0
    np.testing.assert_array_equal(unrated.predict(known), unrated.predict(unknown))
