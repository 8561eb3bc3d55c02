"""Ordered target statistic per profile, residualised by cross-fitted trees: one number per profile.

A success rate does not know how hard its successes were to come by. Here each decided bid counts by its residual: its
success (1 or 0) less the expectation of trees that see neither the profile's history nor, being learnt from the bids of
others, its outcomes. The statistic is the sum of the residuals divided by their information plus `PRIOR_PRECISION`: one
step of Newton's method towards a random intercept of the profile, from 0.

In training each bid has the statistic of its own moment, from outcomes known before it, though what was to be expected
of these is evaluated by all that training has seen (ordered target statistics: Prokhorenkova et
al.: CatBoost, NeurIPS 2018); to be scored, a bid has the last one, which the model carries. A profile that is not among
them has 0. Results are in docs/research-log/.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.estimators.column_encoders import Matrix, TargetStatistic, as_array
from bid_assets.modelling.estimators.gradient_boosting import boosted_trees, fit_rounds, log_odds_after
from bid_assets.modelling.estimators.linear_logit import expit
from bid_assets.modelling.evaluation.metrics import Labels
from bid_assets.modelling.parameters import TrainingParameters

Integers = npt.NDArray[np.int64]

PRIOR_PRECISION = 2.0
"""Precision of the prior: with this much information (about PRIOR_PRECISION / .2 bids) a profile's statistic is shrunk
by half."""
FOLDS = 3
"""Folds of profiles: the expectation of a bid is by trees that were fitted to the other folds."""
ROUNDS = 50
"""Trees of the expectation; no more than the model itself may have."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """The profiles of a column, sorted, and of each row the index of its own."""

    names: list[str]
    codes: Integers
    type: pa.DataType

    @classmethod
    def from_column(cls, column: pa.ChunkedArray) -> Profiles:
        """Of a column without nulls."""
        encoded = as_array(column).cast(pa.string()).dictionary_encode()
        order = pc.sort_indices(encoded.dictionary)
        rank = np.argsort(order.to_numpy())
        return cls(encoded.dictionary.take(order).to_pylist(), rank[encoded.indices.to_numpy()], column.type)


@dataclass(frozen=True, eq=False)
class OrderedTargetStatistic:
    """The decided bids behind the statistic: `submitted` and `known` in microseconds, all of shape (rows,)."""

    profiles: Profiles
    submitted: Integers
    known: Integers
    residual: FloatArray
    information: FloatArray

    @classmethod
    def from_expected(
        cls, profiles: Profiles, submitted: Integers, known: Integers, success: Labels, expected: FloatArray
    ) -> OrderedTargetStatistic:
        """From decided bids and the `expected` probability of success of each."""
        return cls(profiles, submitted, known, success - expected, expected * (1 - expected))

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
        residual, information = (np.bincount(self.profiles.codes, part) for part in (self.residual, self.information))
        values = np.asarray(residual / (information + PRIOR_PRECISION), dtype=np.float64)
        return TargetStatistic(self.profiles.type, tuple(self.profiles.names), values)

    def _known_before(self, at: npt.NDArray[np.int64], part: FloatArray) -> FloatArray:
        """Of each row the sum of `part` over the rows of its profile that were known before that moment."""
        moments, place = np.unique(np.concatenate([at, self.known]), return_inverse=True)
        row_keys, known_keys = np.split(
            place + len(moments) * np.tile(self.profiles.codes, 2), 2
        )  # first by profile, then by time
        order = np.argsort(known_keys, kind="stable")
        total = np.concatenate([[0.0], np.cumsum(part[order])])
        begin = np.searchsorted(known_keys[order], len(moments) * self.profiles.codes)
        return np.asarray(total[np.searchsorted(known_keys[order], row_keys)] - total[begin])


def cross_fitted_expectation(
    matrix: Matrix, columns: Integers, weights: Matrix, profiles: Profiles, success: Labels, parameters: TrainingParameters
) -> FloatArray:
    """The probability of success of each row by trees that were fitted to the bids of other profiles.

    They see `columns` of `matrix`: no history. `weights` of these: see `gradient_boosting.column_weights`.
    """
    fold = profiles.codes % FOLDS
    trees = boosted_trees(parameters, weights)
    expected = np.full(len(success), success.mean())  # where there is one class only
    for number in range(FOLDS):
        others, theirs = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(columns) and len(theirs) and len(np.unique(success[others])) == 2:
            rounds = min(ROUNDS, parameters.max_rounds)
            fitted = fit_rounds(trees, matrix[np.ix_(others, columns)], success[others], rounds)
            expected[theirs] = expit(log_odds_after(fitted.get_booster(), matrix[np.ix_(theirs, columns)], rounds))
    return expected
