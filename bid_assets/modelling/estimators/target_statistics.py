"""How a profile's bids ended beside what was to be expected of such bids: one number per profile, learnt in training.

A success rate does not know how hard its successes were to come by. Here each decided bid counts by its surplus: its success (1
or 0) less what trees expect of the bid that see neither the profile's history nor, being learnt from the bids of others, its
outcomes. The rating is the sum of the surpluses divided by what so many bids can tell and by `PRIOR`: one step of Newton's
method towards a random intercept of the profile, from 0.

In training each bid has the rating of its own moment, from outcomes known before it, though what was to be expected of these is
judged by all that training has seen (ordered target statistics: Prokhorenkova et
al.: CatBoost, NeurIPS 2018); to be scored, a bid has the last one, which the model carries. A profile that is not among them has 0.
Figures are in docs/research-log/.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.features.interval_counts import microseconds
from bid_assets.modelling.dataset.assemble import labels
from bid_assets.modelling.estimators.column_encoders import Matrix, TargetStatistic
from bid_assets.modelling.estimators.gradient_boosting import Learner
from bid_assets.modelling.estimators.history_logistic_regression import Vector, probability
from bid_assets.modelling.parameters import TrainingParameters

PRIOR = 2.0
"""Precision of the prior: a profile must have this much information (about PRIOR / .2 bids) to be believed half."""
FOLDS = 3
"""A bid is expected something of by trees that have learnt from the other two thirds of the profiles."""
ROUNDS = 50
"""Trees that expect; no more than the model may have itself."""


@dataclass(frozen=True, eq=False)
class RatingHistory:
    """The decided bids that ratings rest on, in the order of `rows`."""

    profiles: list[str]
    profile: npt.NDArray[np.int64]
    """Of each bid, its place in `profiles`."""
    submitted: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    surplus: Vector
    information: Vector
    type: pa.DataType

    @classmethod
    def of(cls, rows: pa.Table, expected: Vector) -> RatingHistory:
        """By rows that are all decided, of which `expected` is the probability of success."""
        profiles, profile = np.unique(rows["profile_id"].to_numpy().astype(str), return_inverse=True)
        submitted, known = (microseconds(rows[name]) for name in ("submitted_at", "outcome_timestamp"))
        surplus = labels(rows) - expected
        type_ = rows.schema.field("profile_id").type
        return cls(profiles.tolist(), profile, submitted, known, surplus, expected * (1 - expected), type_)

    def at_submission(self, latest: int | None = None) -> Vector:
        """The rating of each bid's profile when it was submitted, but none from outcomes known at `latest` (microseconds) or later.

        A model carries the ratings of when it was trained: validation rows are scored with those of when their block begins.
        """
        moments = self.submitted if latest is None else np.minimum(self.submitted, latest)
        surplus, information = (self._known_before(moments, part) for part in (self.surplus, self.information))
        return surplus / (information + PRIOR)

    def latest(self) -> TargetStatistic:
        """Of each profile, from all rows."""
        surplus, information = (np.bincount(self.profile, part) for part in (self.surplus, self.information))
        return TargetStatistic(self.type, tuple(self.profiles), np.asarray(surplus / (information + PRIOR), dtype=np.float64))

    def _known_before(self, at: npt.NDArray[np.int64], part: Vector) -> Vector:
        """Of each row the sum of `part` over the rows of its profile that were known before that moment."""
        moments, place = np.unique(np.concatenate([at, self.known]), return_inverse=True)
        asked, told = np.split(place + len(moments) * np.tile(self.profile, 2), 2)  # first by profile, then by time
        order = np.argsort(told, kind="stable")
        total = np.concatenate([[0.0], np.cumsum(part[order])])
        begin = np.searchsorted(told[order], len(moments) * self.profile)
        return np.asarray(total[np.searchsorted(told[order], asked)] - total[begin])


def expected_of_each(matrix: Matrix, rows: pa.Table, weights: Matrix, parameters: TrainingParameters) -> Vector:
    """The probability of success of each row by trees that have learnt from the bids of other profiles.

    `matrix` has what they see of the rows: no history. `weights`: see `boosting.column_weights`.
    """
    success = labels(rows)
    fold = np.unique(rows["profile_id"].to_numpy().astype(str), return_inverse=True)[1] % FOLDS
    rounds = min(ROUNDS, parameters.max_rounds)
    expected = np.full(len(success), success.mean())  # where nothing can be told apart
    for number in range(FOLDS):
        others, theirs = fold != number, fold == number
        if matrix.shape[1] and theirs.any() and len(np.unique(success[others])) == 2:
            learner = Learner(matrix[others], success[others], weights, parameters)
            expected[theirs] = probability(learner.fitted_to_all(rounds).log_odds(matrix[theirs]))
    return expected
