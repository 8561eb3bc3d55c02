from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import brier_score_loss, confusion_matrix, f1_score, log_loss, precision_score, recall_score

from bid_assets.modelling.evaluation.metrics import (
    all_metrics,
    best_f1_threshold,
    calibration_bins,
    probability_metrics,
    ranking_metrics,
    roc_points,
    threshold_metrics,
)

SUCCESS = np.array([True, True, False, True, False, True, True, False])
PROBABILITY = np.array([0.9, 0.6, 0.4, 0.8, 0.7, 0.3, 0.9, 0.2])


def test_log_loss_and_brier_are_those_of_scikit_learn() -> None:
    found = probability_metrics(SUCCESS, PROBABILITY)
    assert found["log_loss"] == pytest.approx(log_loss(SUCCESS, PROBABILITY))
    assert found["brier"] == pytest.approx(brier_score_loss(SUCCESS, PROBABILITY))


def test_a_call_at_the_threshold_is_a_success() -> None:
    found = threshold_metrics(SUCCESS, PROBABILITY, 0.6)
    called = PROBABILITY >= 0.6
    tn, fp, fn, tp = confusion_matrix(SUCCESS, called).ravel()
    assert found["confusion_matrix"] == {"true_positive": tp, "false_positive": fp, "false_negative": fn, "true_negative": tn}
    assert found["precision"] == pytest.approx(precision_score(SUCCESS, called))
    assert found["recall_of_failure"] == pytest.approx(recall_score(~SUCCESS, ~called))
    assert found["f1"] == pytest.approx(f1_score(SUCCESS, called))


def test_average_precision_of_the_rarer_class_looks_for_that_class() -> None:
    found = ranking_metrics(SUCCESS, PROBABILITY, rarer_is_success=False)
    mirrored = ranking_metrics(~SUCCESS, 1 - PROBABILITY, rarer_is_success=True)
    assert found["average_precision_rarer"] == pytest.approx(mirrored["average_precision"])
    assert found["average_precision_rarer"] != pytest.approx(found["average_precision"])


def test_probabilities_that_come_true_have_no_calibration_error() -> None:
    probability = np.repeat([0.25, 0.75], 400)
    success = np.tile([True, False, False, False], 100).tolist() + np.tile([True, True, True, False], 100).tolist()
    assert probability_metrics(np.array(success), probability)["calibration_error"] == pytest.approx(0)


def test_a_constant_probability_is_one_bin_and_its_error_the_gap_to_the_rate() -> None:
    success = np.array([True] * 60 + [False] * 40)
    (only,) = calibration_bins(success, np.full(100, 0.9))
    assert only == {"rows": 100, "mean_probability": pytest.approx(0.9), "label_rate": pytest.approx(0.6)}
    assert probability_metrics(success, np.full(100, 0.9))["calibration_error"] == pytest.approx(0.3)


@pytest.mark.parametrize("success", [np.array([], dtype=bool), np.array([True, True]), np.array([False])])
def test_what_cannot_be_computed_is_null_and_never_an_error(success: np.ndarray) -> None:
    found = all_metrics(success, np.full(len(success), 0.4), 0.5, rarer_is_success=False)
    assert found["roc_auc"] is None
    assert json.loads(json.dumps(found, allow_nan=False))["rows"] == len(success)
    assert roc_points(success, np.full(len(success), 0.4)) is None


def test_certainty_that_fails_costs_much_but_not_infinity() -> None:
    assert 10 < (probability_metrics(np.array([True]), np.array([0.0]))["log_loss"] or 0) < 20


pairs = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        arrays.arrays(bool, n), arrays.arrays(float, n, elements=st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9, 0.95]))
    )
)


@given(pairs, st.booleans())
def test_no_threshold_has_a_better_f1_for_the_rarer_class(pair: tuple[np.ndarray, np.ndarray], rarer_is_success: bool) -> None:
    success, probability = pair
    if len(np.unique(success)) < 2:
        return
    suffix = "" if rarer_is_success else "_of_failure"

    def f1(threshold: float) -> float:
        return float(threshold_metrics(success, probability, threshold)[f"f1{suffix}"] or 0.0)

    best = best_f1_threshold(success, probability, rarer_is_success)
    assert f1(best) == pytest.approx(max(f1(threshold) for threshold in np.linspace(0, 1, 201)))


@given(pairs)
def test_bins_hold_every_row_once(pair: tuple[np.ndarray, np.ndarray]) -> None:
    success, probability = pair
    bins = calibration_bins(success, probability)
    assert sum(b["rows"] for b in bins) == len(success)
    assert sum(b["rows"] * b["label_rate"] for b in bins) == pytest.approx(success.sum())
