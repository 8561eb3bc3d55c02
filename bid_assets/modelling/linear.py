"""The model's second opinion: a small logistic regression, fitted and scored with plain numpy.

Trees cut a slope into steps; a line does not. The average of both ranks better than either (docs/architecture.md, "Training").
Sums run in one fixed order, never through BLAS: the same rows give the same bits with any number of threads, and a row scores
the same alone as among others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from bid_assets.modelling.metrics import Labels
from bid_assets.modelling.preprocess import Matrix

Vector = npt.NDArray[np.float64]

PENALTY = 1.0
"""On the squares of the weights of standardised numbers; the intercept is free."""

_MOST_STEPS = 100
_SMALLEST_STEP = 1e-9


@dataclass(frozen=True, eq=False)
class Linear:
    """Log-odds as a sum over some columns of a matrix: `base`, and a term of each column that is 0 on average in training.

    The term of a number is `slope * number + offset`; of a missing one, `absent`. Numbers outside of `low` to `high`, the
    range seen in training, count as its nearer end: a line must not run away with a number that nobody has seen.
    """

    columns: npt.NDArray[np.int64]
    slope: Vector
    offset: Vector
    absent: Vector
    low: Vector
    high: Vector
    base: float

    def terms(self, matrix: Matrix) -> Vector:
        """What each of `columns` adds to the log-odds of each row, shape (rows, columns)."""
        numbers = matrix[:, self.columns].astype(np.float64)
        inside = np.clip(numbers, self.low, self.high)
        return np.where(np.isnan(numbers), self.absent, inside * self.slope + self.offset)

    def log_odds(self, matrix: Matrix) -> Vector:
        """The log-odds of each row, shape (rows,)."""
        return np.einsum("rc->r", self.terms(matrix)) + self.base

    def digest(self) -> bytes:
        """SHA-256 of everything that decides a score."""
        return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in astuple(self))).digest()


def fit(matrix: Matrix, success: Labels, columns: Sequence[int]) -> Linear:
    """The regression of `success` on `columns` of `matrix`; both kinds of outcome must occur, and one column at least.

    A missing number counts as the median, and that it is missing is a yes/no number of its own.
    """
    numbers = matrix[:, columns].astype(np.float64)
    missing = np.isnan(numbers)
    empty = missing.all(axis=0)
    numbers[:, empty] = 0.0
    median = np.nanmedian(numbers, axis=0)
    filled = np.where(np.isnan(numbers), median, numbers)
    inputs = np.hstack([filled, missing])
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale[scale < 1e-12 * np.maximum(1.0, np.abs(mean))] = np.inf  # a constant says nothing
    intercept, weights = _logistic_regression((inputs - mean) / scale, success)
    slope, missing_weight = np.split(weights / scale, 2)
    of_value, of_missing = np.split(mean, 2)
    offset = -slope * of_value - missing_weight * of_missing
    return Linear(
        columns=np.array(columns, dtype=np.int64),
        slope=slope,
        offset=offset,
        absent=slope * median + missing_weight + offset,
        low=filled.min(axis=0),
        high=filled.max(axis=0),
        base=intercept,
    )


def _logistic_regression(inputs: Vector, success: Labels) -> tuple[float, Vector]:
    """Intercept and weights of least log loss plus penalty, by Newton's method; a step that makes it worse is halved."""
    design = np.hstack([np.ones((len(inputs), 1)), inputs])
    penalty = np.full(design.shape[1], PENALTY)
    penalty[0] = 0.0
    rate = success.mean()
    weights = np.zeros(design.shape[1])
    weights[0] = np.log(rate / (1 - rate))

    def loss(tried: Vector) -> float:
        log_odds = np.einsum("rc,c->r", design, tried)
        return float(np.sum(np.logaddexp(0, log_odds) - success * log_odds) + 0.5 * np.sum(penalty * tried**2))

    for _ in range(_MOST_STEPS):
        probability = 1 / (1 + np.exp(-np.einsum("rc,c->r", design, weights)))
        gradient = np.einsum("rc,r->c", design, probability - success) + penalty * weights
        spread = design * (probability * (1 - probability))[:, None]
        step = np.linalg.solve(np.einsum("ri,rj->ij", spread, design) + np.diag(penalty), gradient)
        before = loss(weights)
        while loss(weights - step) > before and np.abs(step).max() > _SMALLEST_STEP:
            step /= 2
        weights -= step
        if np.abs(step).max() <= _SMALLEST_STEP:
            break
    return float(weights[0]), weights[1:]
