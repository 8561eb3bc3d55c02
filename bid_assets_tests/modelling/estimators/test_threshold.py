from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.modelling.estimators.threshold import choose_threshold
from bid_assets.modelling.evaluation.metrics import best_f1_threshold
from bid_assets.modelling.parameters import TrainingParameters

scored = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=40).map(
    lambda rows: (np.array([success for success, _ in rows]), np.array([tenths / 10 for _, tenths in rows]))
)


def aim(name: str, **others: float) -> TrainingParameters:
    return TrainingParameters(threshold_objective=name, **others)  # type: ignore[arg-type]


def test_f1_is_the_default() -> None:
    success, probability = np.array([True, False, True, False]), np.array([0.9, 0.4, 0.6, 0.1])
    assert choose_threshold(success, probability, TrainingParameters(), True) == best_f1_threshold(success, probability, True)


@given(scored, st.sampled_from([0.3, 0.5, 0.9]))
def test_precision_is_reached_where_it_can_be_and_as_many_bids_as_possible_are_called(
    rows: tuple[np.ndarray, np.ndarray], wanted: float
) -> None:
    success, probability = rows
    threshold = choose_threshold(success, probability, aim("precision", min_precision=wanted), True)
    reached = {t: success[probability >= t].mean() for t in np.unique(probability)}
    if max(reached.values()) >= wanted:
        assert success[probability >= threshold].mean() >= wanted
        assert (probability >= threshold).sum() == (probability >= min(t for t, p in reached.items() if p >= wanted)).sum()


@given(scored, st.sampled_from([1.5, 3.0, 20.0]))
def test_no_other_threshold_is_worth_more(rows: tuple[np.ndarray, np.ndarray], gain: float) -> None:
    success, probability = rows

    def value(threshold: float) -> float:
        called = probability >= threshold
        return gain * float((called & success).sum()) - float(called.sum())

    threshold = choose_threshold(success, probability, aim("value", cost_per_bid=1, gain_per_success=gain), True)
    assert value(threshold) == pytest.approx(max(value(t) for t in [*np.unique(probability), 2.0]))


def test_an_unknown_aim_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold_objective must be one of f1, precision, value"):
        aim("accuracy")
