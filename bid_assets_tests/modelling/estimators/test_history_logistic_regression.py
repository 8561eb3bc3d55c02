from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bid_assets.modelling.estimators import history_logistic_regression
from bid_assets.modelling.estimators.history_logistic_regression import (
    PENALTY,
    compile_history,
    fit_history_regression,
    history_regression,
)
from bid_assets.modelling.estimators.linear_logit import LinearLogit, expit, signed_log1p

ROWS = 400


def fit(matrix: np.ndarray, success: np.ndarray, columns: list[int]) -> LinearLogit:
    return compile_history(fit_history_regression(history_regression(), matrix[:, columns], success), columns)


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """A matrix of four columns, the second with holes, the last without any number; and labels that hang on the first two."""
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(ROWS, 4)).astype(np.float32) * np.array([1, 50, 0.01, 1], dtype=np.float32) + 7
    success = matrix[:, 0] - 7 + (matrix[:, 1] - 7) / 50 + rng.logistic(size=ROWS) > 0
    matrix[rng.random(ROWS) < 0.2, 1] = np.nan
    matrix[:, 3] = np.nan
    return matrix, success


@pytest.fixture(scope="module")
def part(rows: tuple[np.ndarray, np.ndarray]) -> LinearLogit:
    return fit(*rows, [0, 1, 2, 3])


def test_it_is_the_regression_that_scikit_learn_finds(rows: tuple[np.ndarray, np.ndarray], part: LinearLogit) -> None:
    matrix, success = signed_log1p(rows[0]), rows[1]
    missing = np.isnan(matrix[:, 1])
    filled = np.where(missing, np.nanmedian(matrix[:, 1]), matrix[:, 1])
    inputs = StandardScaler().fit_transform(np.column_stack([matrix[:, 0], filled, matrix[:, 2], missing]).astype(np.float64))
    expected = LogisticRegression(C=1 / PENALTY, tol=1e-10, max_iter=10_000).fit(inputs, success).decision_function(inputs)
    np.testing.assert_allclose(part.log_odds(rows[0]), expected, atol=1e-5)


def test_compiled_it_scores_as_the_pipeline_does(rows: tuple[np.ndarray, np.ndarray], part: LinearLogit) -> None:
    pipeline = fit_history_regression(history_regression(), *rows)
    far = np.vstack([rows[0], rows[0] * 1000, np.full((1, 4), np.nan, dtype=np.float32)])
    np.testing.assert_allclose(part.log_odds(far), pipeline.decision_function(far), atol=1e-9)


def test_terms_and_base_add_up_to_the_log_odds(rows: tuple[np.ndarray, np.ndarray], part: LinearLogit) -> None:
    np.testing.assert_allclose(part.contributions(rows[0]).sum(axis=1) + part.intercept, part.log_odds(rows[0]), atol=1e-12)


def test_each_term_is_0_on_average_in_training(rows: tuple[np.ndarray, np.ndarray], part: LinearLogit) -> None:
    np.testing.assert_allclose(part.contributions(rows[0]).mean(axis=0), 0, atol=1e-12)


def test_a_row_scores_the_same_alone_as_among_others(rows: tuple[np.ndarray, np.ndarray], part: LinearLogit) -> None:
    alone = [part.log_odds(rows[0][row : row + 1])[0] for row in range(ROWS)]
    np.testing.assert_array_equal(alone, part.log_odds(rows[0]))


def test_a_column_without_numbers_says_nothing_even_when_it_has_some_later(
    rows: tuple[np.ndarray, np.ndarray], part: LinearLogit
) -> None:
    later = rows[0].copy()
    later[:, 3] = 9
    np.testing.assert_array_equal(part.log_odds(later), part.log_odds(rows[0]))


def test_what_was_never_missing_in_training_counts_as_the_median(
    rows: tuple[np.ndarray, np.ndarray], part: LinearLogit
) -> None:
    one, missing = rows[0][:1].copy(), rows[0][:1].copy()
    one[0, 0], missing[0, 0] = np.median(rows[0][:, 0]), np.nan
    np.testing.assert_allclose(part.log_odds(missing), part.log_odds(one), atol=1e-6)


def test_a_line_does_not_run_away_with_a_number_that_nobody_has_seen(
    rows: tuple[np.ndarray, np.ndarray], part: LinearLogit
) -> None:
    far, farther = rows[0][:1].copy(), rows[0][:1].copy()
    far[0, 0], farther[0, 0] = 1e3, 1e30
    np.testing.assert_array_equal(part.log_odds(far), part.log_odds(farther))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_classes_that_a_line_separates_perfectly_still_give_finite_weights(scale: float) -> None:
    matrix = (np.arange(40, dtype=np.float32) * scale)[:, None]
    part = fit(matrix, np.arange(40) >= 37, [0])
    assert np.isfinite(part.log_odds(matrix)).all()
    assert (np.diff(part.log_odds(matrix)) > 0).all()


numbers = st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan")))


@given(drawn=st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=2, max_size=40))
def test_whatever_the_numbers_the_log_odds_are_finite_and_right_on_average(
    drawn: list[tuple[float, float, bool]],
) -> None:
    """The mean probability of a logistic regression with a free intercept is the rate of success."""
    matrix = np.array([row[:2] for row in drawn], dtype=np.float32)
    success = np.array([row[2] for row in drawn])
    success[:2] = [True, False]
    log_odds = fit(matrix, success, [0, 1]).log_odds(matrix)
    assert np.isfinite(log_odds).all()
    assert expit(log_odds).mean() == pytest.approx(success.mean(), abs=1e-6)


def test_of_very_many_rows_some_of_either_class_are_learnt_from(
    rows: tuple[np.ndarray, np.ndarray], part: LinearLogit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_logistic_regression, "MAX_ROWS", 200)
    sampled = fit(*rows, [0, 1, 2, 3])
    assert np.corrcoef(sampled.log_odds(rows[0]), part.log_odds(rows[0]))[0, 1] > 0.95
    rare = np.arange(ROWS) == 7
    assert np.isfinite(fit(rows[0], rare, [0]).log_odds(rows[0])).all()
