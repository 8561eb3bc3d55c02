"""Probability calibration of the model's log-odds: none, sigmoid (Platt) or isotonic; by default none.

A calibration is fitted to forward blocks of the training bids, scored by components that were not fitted to them, and
used only where it lowers the log loss on later blocks. scikit-learn's `CalibratedClassifierCV` needs folds that are a
partition, or a frozen classifier and rows that it has not seen: forward blocks are neither, since each has components of
its own. So only its two regressions are used. scikit-learn is imported only where one is fitted; applying one takes
NumPy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.estimators.linear_logit import expit

if TYPE_CHECKING:
    from bid_assets.modelling.evaluation.metrics import Labels  # scikit-learn comes with it, which scoring does not need


@dataclass(frozen=True)
class Calibration:
    """`none`: the log-odds as they are. `sigmoid`: `slope * log-odds + intercept` (Platt 1999). `isotonic`: a rising line
    through (`knots`, `levels`): log-odds, probability (Zadrozny, Elkan 2002)."""

    method: str = "none"
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()

    def probability(self, log_odds: FloatArray) -> FloatArray:
        """The calibrated probability of success, shape (rows,)."""
        if self.method == "isotonic":
            return np.interp(log_odds, self.knots, self.levels)
        return expit(self.slope * log_odds + self.intercept)


IDENTITY = Calibration()
"""No correction."""

Block = tuple[FloatArray, "Labels"]
"""Log-odds and labels of a forward block."""


def select_calibration(method: str, blocks: Sequence[Block]) -> Calibration:
    """The calibration of this method, fitted to all blocks, oldest first; `IDENTITY` unless it lowers the log loss of
    unseen blocks.

    Each block but the first is scored with the calibration of those before it.
    """
    if method == "none":
        return IDENTITY
    from bid_assets.modelling.evaluation.metrics import log_losses

    gain = 0.0
    for number, (log_odds, success) in enumerate(blocks[1:], start=1):
        before, after = (each.probability(log_odds) for each in (IDENTITY, fit_calibration(method, blocks[:number])))
        gain += float((log_losses(success, before) - log_losses(success, after)).sum())
    return fit_calibration(method, blocks) if gain > 0 else IDENTITY


def fit_calibration(method: str, blocks: Sequence[Block]) -> Calibration:
    """The calibration fitted to the blocks; `IDENTITY` for one class only, or where a higher score does not mean more
    success."""
    log_odds, success = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    if len(np.unique(success)) < 2:
        return IDENTITY
    return _isotonic(log_odds, success) if method == "isotonic" else _sigmoid(log_odds, success)


def _sigmoid(log_odds: FloatArray, success: Labels) -> Calibration:
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=np.inf).fit(log_odds[:, None], success)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    return Calibration("sigmoid", slope, intercept) if slope > 0 else IDENTITY


def _isotonic(log_odds: FloatArray, success: Labels) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    lowest = 1 / (len(success) + 2)  # nothing is impossible for having not been seen (Laplace)
    curve = IsotonicRegression(y_min=lowest, y_max=1 - lowest).fit(log_odds, success)
    if curve.y_thresholds_[0] == curve.y_thresholds_[-1]:
        return IDENTITY
    return Calibration("isotonic", knots=tuple(map(float, curve.X_thresholds_)), levels=tuple(map(float, curve.y_thresholds_)))
