from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from bid_assets.modelling import evidence
from bid_assets.modelling.linear import Line, compressed, fit, log_loss, probability

ROWS, NOISE = 1500, 60
SOURCES = ["price", "rate", "text", *["text"] * (NOISE - 1)]


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Labels that hang on the first two columns; the other sixty are one embedding that says nothing."""
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(ROWS, 2 + NOISE)).astype(np.float32)
    success = 1.2 * matrix[:, 0] - 0.8 * matrix[:, 1] + rng.logistic(size=ROWS) > 0
    matrix[rng.random(ROWS) < 0.1, 1] = np.nan
    return matrix, success


@pytest.fixture(scope="module")
def line(rows: tuple[np.ndarray, np.ndarray]) -> Line:
    return evidence.fit(rows[0][:1000], rows[1][:1000], SOURCES)


def test_a_column_that_says_nothing_is_all_but_switched_off(rows: tuple[np.ndarray, np.ndarray], line: Line) -> None:
    spread = line.terms(rows[0]).std(axis=0)
    assert spread[2:].max() < 0.1 * spread[:2].min()


def test_it_scores_unseen_rows_better_than_one_penalty_for_all(rows: tuple[np.ndarray, np.ndarray], line: Line) -> None:
    (matrix, success), unseen = rows, slice(1000, None)
    one_penalty = fit(matrix[:1000], success[:1000], range(matrix.shape[1]))
    assert log_loss(line.log_odds(matrix[unseen]), success[unseen]) < log_loss(
        one_penalty.log_odds(matrix[unseen]), success[unseen]
    )
    assert roc_auc_score(success[unseen], line.log_odds(matrix[unseen])) > 0.75


def test_under_its_penalties_it_is_the_regression_that_scikit_learn_finds(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """scikit-learn knows one penalty only: an input divided by the root of its own penalty has the same solution."""
    matrix, success = rows[0][:, :6].copy(), rows[1]
    ruler = evidence._Ruler.of(matrix, SOURCES[:6])
    penalty, weights = evidence._most_likely(ruler.inputs(matrix), success, ruler.groups)
    scaled = ruler.inputs(matrix)[:, 1:] / np.sqrt(penalty[ruler.groups])
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(scaled, success).decision_function(scaled)
    np.testing.assert_allclose(ruler.inputs(matrix) @ weights, expected, atol=1e-4)
    np.testing.assert_allclose(ruler.line(weights).log_odds(matrix), expected, atol=1e-4)


def test_columns_that_miss_the_same_rows_share_one_input_for_it(rows: tuple[np.ndarray, np.ndarray]) -> None:
    matrix = rows[0][:, :4].copy()
    matrix[:, 2] = np.where(np.isnan(matrix[:, 1]), np.nan, matrix[:, 2])
    assert evidence._Ruler.of(matrix, list("abcd")).missing.tolist() == [1]


def test_a_column_without_numbers_and_a_constant_one_say_nothing(rows: tuple[np.ndarray, np.ndarray]) -> None:
    matrix = np.column_stack([rows[0][:, :2], np.full(ROWS, np.nan), np.full(ROWS, 7)]).astype(np.float32)
    found, later = evidence.fit(matrix, rows[1], list("abcd")), matrix.copy()
    later[:, 2:] = 9
    np.testing.assert_array_equal(found.log_odds(later), found.log_odds(matrix))


def test_of_many_rows_some_tell_the_penalties_and_all_the_weights(
    rows: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evidence.fit(*rows, SOURCES).log_odds(rows[0])
    monkeypatch.setattr(evidence, "MOST_ROWS", 500)
    monkeypatch.setattr(evidence, "_CHUNK", 128)
    sampled = evidence.fit(*rows, SOURCES).log_odds(rows[0])
    assert probability(sampled).mean() == pytest.approx(rows[1].mean(), abs=1e-6)
    assert np.corrcoef(whole, sampled)[0, 1] > 0.98


def test_the_rarest_success_is_among_the_rows_that_tell_the_penalties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MOST_ROWS", 10)
    matrix, success = np.arange(100, dtype=np.float32)[:, None], np.arange(100) == 57
    assert np.isfinite(evidence.fit(matrix, success, ["a"]).log_odds(matrix)).all()


def test_a_number_of_training_is_read_as_it_was_fitted(rows: tuple[np.ndarray, np.ndarray], line: Line) -> None:
    """Nothing of training lies where the line is cut off."""
    read = compressed(rows[0][:1000])
    inside = np.isnan(read) | ((read >= line.low) & (read <= line.high))
    assert inside.all()
