"""The history component of the blend: a logistic regression on the profile's history, scored by plain NumPy.

Trees cut a slope into steps, and need many bids for each; a linear model needs few. Numbers are transformed first
(signed log1p): the tenth bid of a profile says less than the second. Why history alone, and the figures, are in
docs/research-log/. Where something else than history decides, it would only dilute the trees: `blend` decides how much
it counts.

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

FloatArray = npt.NDArray[np.float64]

HISTORY_FAMILY = "profile_historical_features"

PENALTY = 10.0
"""On the squares of the weights of standardised numbers; the intercept is free."""

EXTRAPOLATION_MARGIN = 1.0
"""How far beyond its range in training a number may count, in lengths of that range."""

MAX_ROWS = 200_000
"""More rows are subsampled, stratified by outcome: some dozens of weights need no more."""


@dataclass(frozen=True, eq=False)
class LinearLogit:
    """A linear model in log-odds over some columns of a matrix: `intercept`, and a term of each column that is 0 on
    average in training.

    The term of a number, transformed by `signed_log1p`, is `slope * number + offset`; of a missing one, `missing_term`.
    Numbers are clipped to `clip_min` .. `clip_max`, so that extrapolation beyond the training data is limited.
    """

    columns: npt.NDArray[np.int64]
    slopes: FloatArray
    offsets: FloatArray
    missing_terms: FloatArray
    clip_min: FloatArray
    clip_max: FloatArray
    intercept: float

    def contributions(self, matrix: Matrix) -> FloatArray:
        """The contribution of each of `columns` to the log-odds of each row, shape (rows, columns)."""
        numbers = signed_log1p(np.take(matrix, self.columns, axis=1))
        clipped = np.clip(numbers, self.clip_min, self.clip_max)
        return np.where(np.isnan(numbers), self.missing_terms, clipped * self.slopes + self.offsets)

    def log_odds(self, matrix: Matrix) -> FloatArray:
        """The log-odds of each row, shape (rows,)."""
        return np.cumsum(self.contributions(matrix), axis=1)[:, -1] + self.intercept


def fit_history_regression(matrix: Matrix, success: Labels, columns: Sequence[int]) -> LinearLogit:
    """The regression of `success` on `columns` of `matrix`; both classes must occur, and one column at least.

    A missing number counts as the median, and that it is missing is a yes/no number of its own. One thread, so that the
    same rows give the same bits on any machine of a kind.
    """
    from sklearn.linear_model import LogisticRegression

    rows = stratified_subsample(success, MAX_ROWS)
    numbers, success = signed_log1p(np.take(matrix[rows], columns, axis=1)), success[rows]
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
    mean_number, missing_share = np.split(mean, 2)
    low, high = filled.min(axis=0), filled.max(axis=0)
    offset = -slope * mean_number - of_missing * missing_share
    return LinearLogit(
        columns=np.array(columns, dtype=np.int64),
        slopes=slope,
        offsets=offset,
        missing_terms=slope * median + of_missing + offset,
        clip_min=low - EXTRAPOLATION_MARGIN * (high - low),
        clip_max=high + EXTRAPOLATION_MARGIN * (high - low),
        intercept=float(regression.intercept_[0]),
    )


def stratified_subsample(success: Labels, limit: int) -> npt.NDArray[np.int64]:
    """Ascending indices of at most about `limit` rows: every n-th of either class."""
    step = max(1, -(-len(success) // limit))
    return np.sort(np.concatenate([np.flatnonzero(label)[::step] for label in (success, ~success)]))


def signed_log1p(numbers: Matrix) -> FloatArray:
    """sign(x) * log(1 + |x|), in double precision. NaN stays."""
    exact = numbers.astype(np.float64)
    return np.asarray(np.copysign(np.log1p(np.abs(exact)), exact), dtype=np.float64)


def history_columns(dataset: pa.Table) -> list[str]:
    """The feature columns of the profile's history; none where the fields do not say their family."""
    family = HISTORY_FAMILY.encode()
    return [name for name in feature_columns(dataset) if (dataset.schema.field(name).metadata or {}).get(FAMILY_OF) == family]


def blend_log_odds(trees: FloatArray, history: FloatArray, weight: float) -> FloatArray:
    """The weighted average of two log-odds, or of contributions to them."""
    return (1 - weight) * trees + weight * history


def expit(log_odds: FloatArray) -> FloatArray:
    """The probability of these log-odds (logistic function)."""
    return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)
