"""Simulated bids of profiles that differ, and scorers of a known quality: noise on the true log-odds, then calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.metrics import roc_auc_score

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.evaluation.metrics import Labels
from bid_assets.modelling.evaluation.slices import Values


@dataclass(frozen=True)
class Scorer:
    """Reads the true log-odds through noise: `shared` with every scorer, and `own`; `slope` makes it calibrated."""

    shared: float
    own: float
    slope: float
    roc_auc: float


@dataclass(frozen=True, eq=False)
class Sample:
    """Bids of some profiles: the truth behind them and what happened."""

    profile_ids: Values
    log_odds: FloatArray
    noise: FloatArray
    success: Labels

    def scores(self, scorer: Scorer, random: np.random.Generator) -> FloatArray:
        seen = self.log_odds + scorer.shared * self.noise + scorer.own * random.standard_normal(len(self.log_odds))
        return sigmoid(scorer.slope * seen)


def sigmoid(log_odds: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)


def sample(bids: int, profiles: int, random: np.random.Generator) -> Sample:
    """Profiles of unequal activity, each with a level of its own."""
    activity = random.gamma(1.0, size=profiles)
    profile = random.choice(profiles, size=bids, p=activity / activity.sum())
    log_odds = random.normal(0, 0.9, profiles)[profile] + random.normal(0, 1.2, bids)
    return Sample(
        np.array([f"p{n}" for n in profile], dtype=object),
        log_odds,
        random.standard_normal(bids),
        random.random(bids) < sigmoid(log_odds),
    )


@cache
def scorer(shared: float, own: float) -> Scorer:
    """A scorer whose slope and true AUC are found on a large sample."""
    random = np.random.default_rng(1)
    many = sample(200_000, 10_000, random)
    variance = float(np.var(many.log_odds))
    slope = variance / (variance + shared**2 + own**2)
    made = Scorer(shared, own, slope, 0.0)
    return Scorer(shared, own, slope, float(roc_auc_score(many.success, many.scores(made, random))))


@cache
def scorer_of_auc(shared: float, roc_auc: float) -> Scorer:
    """A scorer with so much noise of its own that its true AUC is this one."""
    low, high = 0.0, 4.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if scorer(shared, middle).roc_auc > roc_auc else (low, middle)
    return scorer(shared, (low + high) / 2)
