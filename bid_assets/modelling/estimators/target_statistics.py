"""Ordered target statistic per profile, residualised by cross-fitted trees: one number per profile.

A success rate does not know how hard its successes were to come by. Here each decided bid counts by its residual: its
success (1 or 0) less the expectation of trees that see neither the profile's history nor, being learnt from the bids of
others, its outcomes. The statistic is the sum of the residuals divided by their information plus `PRIOR_PRECISION`: one
step of Newton's method towards a random intercept of the profile, from 0.

In training each bid has the statistic of its own moment, from outcomes known before it, though what was to be expected
of these is judged by all that training has seen (ordered target statistics: Prokhorenkova et
al.: CatBoost, NeurIPS 2018); to be scored, a bid has the last one, which the model carries. A profile that is not among
them has 0. Figures are in docs/research-log/.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.features.interval_counts import microseconds
from bid_assets.modelling.dataset.assemble import labels
from bid_assets.modelling.estimators.column_encoders import Matrix, TargetStatistic
from bid_assets.modelling.estimators.gradient_boosting import BoosterTrainer
from bid_assets.modelling.estimators.history_logistic_regression import FloatArray, expit
from bid_assets.modelling.parameters import TrainingParameters

PRIOR_PRECISION = 2.0
"""Precision of the prior: with this much information (about PRIOR_PRECISION / .2 bids) a profile's statistic is shrunk
by half."""
FOLDS = 3
"""Folds of profiles: the expectation of a bid is by trees that were fitted to the other folds."""
ROUNDS = 50
"""Trees of the expectation; no more than the model itself may have."""


@dataclass(frozen=True, eq=False)
class OrderedTargetStatistic:
    """The decided bids behind the statistic, in the order of `rows`."""

    profiles: list[str]
    profile: npt.NDArray[np.int64]
    """Of each bid, its place in `profiles`."""
    submitted: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    residual: FloatArray
    information: FloatArray
    type: pa.DataType

    @classmethod
    def from_rows(cls, rows: pa.Table, expected: FloatArray) -> OrderedTargetStatistic:
        """From decided rows and the `expected` probability of success of each."""
        profiles, profile = np.unique(rows["profile_id"].to_numpy().astype(str), return_inverse=True)
        submitted, known = (microseconds(rows[name]) for name in ("submitted_at", "outcome_timestamp"))
        residual = labels(rows) - expected
        type_ = rows.schema.field("profile_id").type
        return cls(profiles.tolist(), profile, submitted, known, residual, expected * (1 - expected), type_)

    def at_submission(self, latest: int | None = None) -> FloatArray:
        """The statistic of each bid's profile when it was submitted, without outcomes known at `latest` (microseconds)
        or later.

        A model carries the statistics of when it was trained: validation rows are scored with those of when their block begins.
        """
        moments = self.submitted if latest is None else np.minimum(self.submitted, latest)
        residual, information = (self._known_before(moments, part) for part in (self.residual, self.information))
        return residual / (information + PRIOR_PRECISION)

    def latest(self) -> TargetStatistic:
        """The statistic of each profile, from all rows."""
        residual, information = (np.bincount(self.profile, part) for part in (self.residual, self.information))
        return TargetStatistic(
            self.type, tuple(self.profiles), np.asarray(residual / (information + PRIOR_PRECISION), dtype=np.float64)
        )

    def _known_before(self, at: npt.NDArray[np.int64], part: FloatArray) -> FloatArray:
        """Of each row the sum of `part` over the rows of its profile that were known before that moment."""
        moments, place = np.unique(np.concatenate([at, self.known]), return_inverse=True)
        row_keys, known_keys = np.split(place + len(moments) * np.tile(self.profile, 2), 2)  # first by profile, then by time
        order = np.argsort(known_keys, kind="stable")
        total = np.concatenate([[0.0], np.cumsum(part[order])])
        begin = np.searchsorted(known_keys[order], len(moments) * self.profile)
        return np.asarray(total[np.searchsorted(known_keys[order], row_keys)] - total[begin])


def cross_fitted_expectation(matrix: Matrix, rows: pa.Table, weights: Matrix, parameters: TrainingParameters) -> FloatArray:
    """The probability of success of each row by trees that were fitted to the bids of other profiles.

    `matrix` has what they see of the rows: no history. `weights`: see `gradient_boosting.column_weights`.
    """
    success = labels(rows)
    fold = np.unique(rows["profile_id"].to_numpy().astype(str), return_inverse=True)[1] % FOLDS
    rounds = min(ROUNDS, parameters.max_rounds)
    expected = np.full(len(success), success.mean())  # where there is one class only
    for number in range(FOLDS):
        others, theirs = fold != number, fold == number
        if matrix.shape[1] and theirs.any() and len(np.unique(success[others])) == 2:
            trainer = BoosterTrainer(matrix[others], success[others], weights, parameters)
            expected[theirs] = expit(trainer.fit_all_rows(rounds).log_odds(matrix[theirs]))
    return expected
