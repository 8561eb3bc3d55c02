"""From a model's log-odds to probabilities that can be taken at their word, fitted on bids that neither training nor judging saw.

scikit-learn is imported only where a calibration is fitted; applying one takes numpy alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bid_assets.modelling.linear import Vector, probability
from bid_assets.modelling.split import CALIBRATES_FROM

if TYPE_CHECKING:
    from bid_assets.modelling.metrics import Labels  # scikit-learn comes with it, which scoring does not need

ISOTONIC_FROM = 1000
"""So many bids of either class are needed for a curve; two numbers need fewer (`split.CALIBRATES_FROM`), and found from fewer are worse than none
(Niculescu-Mizil, Caruana: Predicting good probabilities with supervised learning, ICML 2005)."""


@dataclass(frozen=True)
class Calibration:
    """`none`: the log-odds as they are. `sigmoid`: `slope * log-odds + intercept` (Platt 1999). `isotonic`: a rising line
    through (`knots`, `levels`): log-odds, probability (Zadrozny, Elkan 2002)."""

    kind: str = "none"
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()

    def probability(self, log_odds: Vector) -> Vector:
        """The calibrated probability of success, shape (rows,)."""
        if self.kind == "isotonic":
            return np.interp(log_odds, self.knots, self.levels)
        return probability(self.slope * log_odds + self.intercept)

    def digest(self) -> bytes:
        """SHA-256 of everything that decides a probability."""
        numbers = np.concatenate([[self.slope, self.intercept], self.knots, self.levels])
        return hashlib.sha256(self.kind.encode() + numbers.tobytes()).digest()


NOT_CALIBRATED = Calibration()


def fit(log_odds: Vector, success: Labels) -> Calibration:
    """The calibration that so many bids allow; `NOT_CALIBRATED` for too few, or where a higher score does not mean more success."""
    rarer = int(min(success.sum(), (~success).sum()))
    if rarer >= ISOTONIC_FROM:
        return _isotonic(log_odds, success)
    return _sigmoid(log_odds, success) if rarer >= CALIBRATES_FROM else NOT_CALIBRATED


def _sigmoid(log_odds: Vector, success: Labels) -> Calibration:
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=np.inf).fit(log_odds[:, None], success)
    slope, intercept = float(found.coef_[0, 0]), float(found.intercept_[0])
    return Calibration("sigmoid", slope, intercept) if slope > 0 else NOT_CALIBRATED


def _isotonic(log_odds: Vector, success: Labels) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    lowest = 1 / (len(success) + 2)  # nothing is impossible for having not been seen (Laplace)
    found = IsotonicRegression(y_min=lowest, y_max=1 - lowest).fit(log_odds, success)
    if found.y_thresholds_[0] == found.y_thresholds_[-1]:
        return NOT_CALIBRATED
    return Calibration("isotonic", knots=tuple(map(float, found.X_thresholds_)), levels=tuple(map(float, found.y_thresholds_)))
