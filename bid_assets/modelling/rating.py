"""How a profile's bids ended beside what was to be expected of such bids: one number per profile, learnt in training.

A success rate does not know how hard its successes were to come by. Here each decided bid counts by its surplus: its success (1
or 0) less what trees expect of the bid that see neither the profile's history nor, being learnt from the bids of others, its
outcomes. The rating is the sum of the surpluses divided by what so many bids can tell and by `PRIOR`: one step of Newton's
method towards a random intercept of the profile, from 0.

In training each bid has the rating of its own moment, from outcomes known before it, though what was to be expected of these is
judged by all that training has seen (ordered target statistics: Prokhorenkova et
al.: CatBoost, NeurIPS 2018); to be scored, a bid has the last one, which the model carries. A profile that is not among them has 0.
Figures are in docs/evaluation.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.features.point_in_time import microseconds
from bid_assets.modelling.boosting import Learner
from bid_assets.modelling.linear import Vector, probability
from bid_assets.modelling.metrics import Labels
from bid_assets.modelling.parameters import TrainingParameters
from bid_assets.modelling.preprocess import Matrix, Rating

PRIOR = 2.0
"""Precision of the prior: a profile must have this much information (about PRIOR / .2 bids) to be believed half."""
FOLDS = 3
"""A bid is expected something of by trees that have learnt from the other two thirds of the profiles."""
ROUNDS = 100
"""Trees that expect; no more than the model may have itself."""


class Rated(NamedTuple):
    """What the ratings of some rows are."""

    then: Vector
    """Of each row, when it was submitted."""
    last: Rating
    """Of each profile, from all rows."""


def rated(rows: pa.Table, expected: Vector) -> Rated:
    """The ratings by rows that are all decided, of which `expected` is the probability of success."""
    profiles, profile = np.unique(rows["profile_id"].to_numpy().astype(str), return_inverse=True)
    surplus = np.asarray(rows["target_is_success"], dtype=bool) - expected
    information = expected * (1 - expected)
    submitted, known = (microseconds(rows[name]) for name in ("submitted_at", "outcome_timestamp"))
    before = [_known_before(profile, submitted, known, part) for part in (surplus, information)]
    at_last = [np.bincount(profile, part, len(profiles)).astype(np.float64) for part in (surplus, information)]
    then, last = (part / (told + PRIOR) for part, told in (before, at_last))
    return Rated(then, Rating(rows.schema.field("profile_id").type, tuple(profiles.tolist()), last))


def expected_of_each(matrix: Matrix, rows: pa.Table, learns: Labels, weights: Matrix, parameters: TrainingParameters) -> Vector:
    """The probability of success of each row by trees that have learnt from those rows that `learns` allows and that other profiles made.

    `matrix` has what they see of the rows: no history. `weights`: see `boosting.column_weights`.
    """
    success = np.asarray(rows["target_is_success"], dtype=bool)
    fold = np.unique(rows["profile_id"].to_numpy().astype(str), return_inverse=True)[1] % FOLDS
    rounds = min(ROUNDS, parameters.max_rounds)
    expected = np.full(len(success), success[learns].mean())  # where nothing can be told apart
    for number in range(FOLDS):
        others, theirs = learns & (fold != number), fold == number
        if matrix.shape[1] and theirs.any() and len(np.unique(success[others])) == 2:
            learner = Learner(matrix[others], success[others], weights, parameters)
            expected[theirs] = probability(learner.log_odds_after(rounds, matrix[theirs]))
    return expected


def _known_before(
    profile: npt.NDArray[np.int64], submitted: npt.NDArray[np.int64], known: npt.NDArray[np.int64], part: Vector
) -> Vector:
    """Of each row the sum of `part` over the rows of its profile that were known before it was submitted."""
    moments, place = np.unique(np.concatenate([submitted, known]), return_inverse=True)
    asked, told = np.split(place + len(moments) * np.tile(profile, 2), 2)  # first by profile, then by time
    order = np.argsort(told, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(part[order])])
    begin = np.searchsorted(told[order], len(moments) * profile)
    return np.asarray(total[np.searchsorted(told[order], asked)] - total[begin])
