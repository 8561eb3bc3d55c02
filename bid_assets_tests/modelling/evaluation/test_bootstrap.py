from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from bid_assets.modelling.evaluation import bootstrap as module
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.bootstrap import METRICS, ClusterBootstrap, WeightedMetrics, intervals
from bid_assets_tests.modelling.scorers import sample, scorer

NONE = dict.fromkeys(METRICS)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.1, 0.25, 0.5, 0.5, 0.9]), st.integers(0, 4), st.integers(0, 3)),
        min_size=4,
        max_size=40,
    )
)
def test_weights_are_the_same_as_repeated_rows(rows: list[tuple[bool, float, int, int]]) -> None:
    success, probability = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    draws = ClusterBootstrap.from_profiles(np.array([f"p{row[2]}" for row in rows], dtype=object))
    counts = np.array([[rows[0][3], *(n % 3 for n in range(1, draws.profiles))]], dtype=float)
    weights = counts[0][draws.profile].astype(int)
    repeated, scores = np.repeat(success, weights), np.repeat(probability, weights)
    found = WeightedMetrics(success, probability, draws).compute(counts, rarer_is_success=False)
    if len(np.unique(repeated)) < 2:
        assert all(np.isnan(found[name][0]) for name in METRICS[:3])
    else:
        assert found["roc_auc"][0] == pytest.approx(roc_auc_score(repeated, scores))
        assert found["average_precision"][0] == pytest.approx(average_precision_score(repeated, scores))
        assert found["average_precision_rarer"][0] == pytest.approx(average_precision_score(~repeated, -scores))


def test_with_every_profile_drawn_once_the_metrics_are_those_of_the_metrics() -> None:
    drawn = sample(800, 40, np.random.default_rng(0))
    probability = drawn.scores(scorer(0.5, 0.5), np.random.default_rng(1)).round(2)
    scored = WeightedMetrics(drawn.success, probability, ClusterBootstrap.from_profiles(drawn.profile_ids))
    once = np.ones((1, scored.bootstrap.profiles))
    found = scored.compute(once, rarer_is_success=True)
    expected = {
        **metrics.probability_metrics(drawn.success, probability),
        **metrics.ranking_metrics(drawn.success, probability, rarer_is_success=True),
    }
    assert {name: float(found[name][0]) for name in expected} == pytest.approx(expected)


def test_equal_seeds_give_equal_intervals_and_the_metric_lies_inside() -> None:
    drawn = sample(1000, 80, np.random.default_rng(0))
    probability = drawn.scores(scorer(0.5, 0.5), np.random.default_rng(1))
    found = intervals(drawn.success, probability, drawn.profile_ids, rarer_is_success=True)
    assert found == intervals(drawn.success, probability, drawn.profile_ids, rarer_is_success=True)
    on_sample = {
        **metrics.ranking_metrics(drawn.success, probability, True),
        **metrics.probability_metrics(drawn.success, probability),
    }
    for name in ("roc_auc", "average_precision", "log_loss", "brier"):
        low, high = found[name] or (0, 0)
        assert low < on_sample[name] < high


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(metric: str) -> None:
    read = scorer(0.5, 0.5)
    many = sample(200_000, 10_000, np.random.default_rng(99))
    scores = many.scores(read, np.random.default_rng(98))
    truth = {**metrics.ranking_metrics(many.success, scores, True), **metrics.probability_metrics(many.success, scores)}[metric]
    held = 0
    for trial in range(60):
        random = np.random.default_rng(trial)
        drawn = sample(1000, 100, random)
        found = intervals(drawn.success, drawn.scores(read, random), drawn.profile_ids, True, resamples=200)[metric]
        held += found is not None and found[0] <= truth <= found[1]
    assert held >= 52  # of 60; 95 % would be 57, and fewer than 52 come by chance once in 200 times


def test_the_calibration_error_of_a_calibrated_scorer_may_be_nought() -> None:
    touched = 0
    read = scorer(0.5, 0.5)
    for trial in range(20):
        random = np.random.default_rng(trial)
        drawn = sample(1500, 150, random)
        found = intervals(drawn.success, drawn.scores(read, random), drawn.profile_ids, True, resamples=100)
        low, _ = found["calibration_error"] or (1.0, 1.0)
        touched += low < 0.01
    assert touched >= 17


def test_one_profile_alone_says_nothing_about_others() -> None:
    found = intervals(np.array([True, False]), np.array([0.3, 0.6]), np.array(["p", "p"], dtype=object), True)
    assert found == NONE


def test_no_row_has_no_interval() -> None:
    assert intervals(np.empty(0, dtype=bool), np.empty(0), np.empty(0, dtype=object), True) == NONE


def test_one_class_has_no_ranking_but_a_log_loss() -> None:
    profiles = np.array(["a", "b", "c"], dtype=object)
    found = intervals(np.ones(3, dtype=bool), np.array([0.3, 0.6, 0.7]), profiles, True)
    assert found["roc_auc"] is None
    assert found["log_loss"] is not None


def test_the_intervals_of_very_many_rows_are_those_that_tell_all_probabilities_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = sample(50_000, 500, np.random.default_rng(0))
    probability = drawn.scores(scorer(0.5, 0.5), np.random.default_rng(1))
    assert len(np.unique(probability)) > 2 * module.GROUPS
    found = intervals(drawn.success, probability, drawn.profile_ids, True, resamples=20)
    monkeypatch.setattr(module, "GROUPS", len(probability))
    exact = intervals(drawn.success, probability, drawn.profile_ids, True, resamples=20)
    for name in METRICS:
        assert found[name] == pytest.approx(exact[name], abs=1e-4), name
