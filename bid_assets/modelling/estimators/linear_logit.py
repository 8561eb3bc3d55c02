"""A linear model in log-odds, scored by plain NumPy: what the history component of the blend is compiled to.

Scores are summed in one fixed order, never through BLAS: a row scores the same alone as among others. How one is fitted
is in `history_logistic_regression`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.estimators.column_encoders import Matrix


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


def signed_log1p(numbers: Matrix) -> FloatArray:
    """sign(x) * log(1 + |x|), in double precision. NaN stays."""
    exact = numbers.astype(np.float64)
    return np.asarray(np.copysign(np.log1p(np.abs(exact)), exact), dtype=np.float64)


def blend_log_odds(trees: FloatArray, history: FloatArray, weight: float) -> FloatArray:
    """The weighted average of two log-odds, or of contributions to them."""
    return (1 - weight) * trees + weight * history


def expit(log_odds: FloatArray) -> FloatArray:
    """The probability of these log-odds (logistic function)."""
    return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)
