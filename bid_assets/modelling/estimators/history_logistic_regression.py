"""The history component of the model: a small logistic regression on the profile's history, scored by plain numpy.

Trees cut a slope into steps, and need many bids for each; a line needs few. Numbers are compressed first (logarithm of 1 +
number): the tenth bid of a profile says less than the second. Why history alone, and the figures, are in docs/research-log/. Where something else than history decides, it would only
dilute the trees: `blend` decides how much it counts.

Scores are summed in one fixed order, never through BLAS: a row scores the same alone as among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from threadpoolctl import threadpool_limits

from bid_assets.modelling.dataset.assemble import FAMILY_OF, feature_columns
from bid_assets.modelling.estimators.column_encoders import Matrix

if TYPE_CHECKING:
    from bid_assets.modelling.evaluation.metrics import Labels  # scikit-learn comes with it, which scoring does not need

Vector = npt.NDArray[np.float64]

HISTORY_FAMILY = "profile_historical_features"

PENALTY = 10.0
"""On the squares of the weights of standardised numbers; the intercept is free."""

REACH = 1.0
"""How far beyond the range of a number in training a line goes on, in lengths of that range."""

MOST_ROWS = 200_000
"""Of more rows every second, third, ... is learnt from: some dozens of weights need no more."""


@dataclass(frozen=True, eq=False)
class Line:
    """Log-odds as a sum over some columns of a matrix: `base`, and a term of each column that is 0 on average in training.

    The term of a number, once `compressed`, is `slope * number + offset`; of a missing one, `absent`. A number outside of `low` to `high` counts as
    the nearer end: a line may reach beyond what training has seen, but must not run away.
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
        numbers = compressed(np.take(matrix, self.columns, axis=1))
        inside = np.clip(numbers, self.low, self.high)
        return np.where(np.isnan(numbers), self.absent, inside * self.slope + self.offset)

    def log_odds(self, matrix: Matrix) -> Vector:
        """The log-odds of each row, shape (rows,)."""
        return np.cumsum(self.terms(matrix), axis=1)[:, -1] + self.base


def fit(matrix: Matrix, success: Labels, columns: Sequence[int]) -> Line:
    """The regression of `success` on `columns` of `matrix`; both kinds of outcome must occur, and one column at least.

    A missing number counts as the median, and that it is missing is a yes/no number of its own. One thread, so that the same rows
    give the same bits on any machine of a kind.
    """
    from sklearn.linear_model import LogisticRegression

    some = stratified_subsample(success, MOST_ROWS)
    numbers, success = compressed(np.take(matrix[some], columns, axis=1)), success[some]
    missing = np.isnan(numbers)
    numbers[:, missing.all(axis=0)] = 0.0
    median = np.nanmedian(numbers, axis=0)
    filled = np.where(np.isnan(numbers), median, numbers)
    inputs = np.hstack([filled, missing])
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale[scale < 1e-12 * np.maximum(1.0, np.abs(mean))] = np.inf  # a constant says nothing
    with threadpool_limits(1):
        regression = LogisticRegression(C=1 / PENALTY, solver="newton-cholesky", tol=1e-9, max_iter=1000)
        regression.fit((inputs - mean) / scale, success)
    slope, of_missing = np.split(regression.coef_[0] / scale, 2)
    usual, usually_missing = np.split(mean, 2)
    low, high = filled.min(axis=0), filled.max(axis=0)
    offset = -slope * usual - of_missing * usually_missing
    return Line(
        columns=np.array(columns, dtype=np.int64),
        slope=slope,
        offset=offset,
        absent=slope * median + of_missing + offset,
        low=low - REACH * (high - low),
        high=high + REACH * (high - low),
        base=float(regression.intercept_[0]),
    )


def stratified_subsample(success: Labels, most: int) -> npt.NDArray[np.int64]:
    """Places of at most about so many rows, in order: every second, third, ... of either class."""
    step = max(1, -(-len(success) // most))
    return np.sort(np.concatenate([np.flatnonzero(label)[::step] for label in (success, ~success)]))


def compressed(numbers: Matrix) -> Vector:
    """The logarithm of 1 + each number, in double precision; of a negative one that of its size, negative. NaN stays."""
    exact = numbers.astype(np.float64)
    return np.asarray(np.copysign(np.log1p(np.abs(exact)), exact), dtype=np.float64)


def history_columns(dataset: pa.Table) -> list[str]:
    """The feature columns of the profile's history; none where the fields do not say their family."""
    family = HISTORY_FAMILY.encode()
    return [name for name in feature_columns(dataset) if (dataset.schema.field(name).metadata or {}).get(FAMILY_OF) == family]


def blended(trees: Vector, line: Vector, weight: float) -> Vector:
    """The log-odds (or parts of them) of both together."""
    return (1 - weight) * trees + weight * line


def probability(log_odds: Vector) -> Vector:
    """The probability that has these log-odds."""
    return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)


def log_losses(log_odds: Vector, success: Labels) -> Vector:
    """Of each row; exact for any log-odds, however far from 0."""
    return np.asarray(np.logaddexp(0, log_odds) - success * log_odds)
