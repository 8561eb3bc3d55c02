"""The truth of the simulated market: what a bid's chance of success depends on, and how that drifts over the weeks.

A logistic function of what clients see in a bid. Some of it the platform can see too (price, timing, experience), some it can
only read from texts (effort, seriousness), and one thing it can only learn from outcomes: the profile's quality.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bid_assets.common.arrow import FloatArray
from bid_assets.simulation.vocabulary import CATEGORIES


@dataclass(frozen=True)
class PreferenceWeights:
    """What clients care about in one week: the weights of the logit. A change of regime is another `PreferenceWeights`."""

    base: float
    quality: float
    fit: float
    price: float
    effort: float
    seriousness: float
    experience: float
    delay: float
    category: FloatArray
    """By category: where demand is high, bids succeed more easily."""


@dataclass(frozen=True)
class Offers:
    """What clients see in each bid; arrays of one length."""

    quality: FloatArray
    fit: FloatArray
    """Share of the job's needs that the profile's skills cover."""
    price: FloatArray
    """Log of amount / budget."""
    effort: NDArray[np.int64]
    """Sentences of the text that speak about this very job, 0 to 4."""
    seriousness: NDArray[np.int64]
    experience: NDArray[np.int64]
    hours_since_posting: FloatArray
    at_weekend: NDArray[np.bool_]
    is_agency: NDArray[np.bool_]
    duration_weeks: NDArray[np.int64]
    category: NDArray[np.int64]


def demand(week: int) -> FloatArray:
    """How many jobs each category has in a week, relative to 1: seasons of half a year, each category in its own phase."""
    phase = np.arange(len(CATEGORIES)) / len(CATEGORIES)
    return 1 + 0.4 * np.sin(2 * np.pi * (week / 26 + phase))


def preference_weights(week: int, change_week: int | None = None) -> PreferenceWeights:
    """The clients' taste in a week. Within one and a half years prices come to matter more and fit less, then back again.

    From `change_week` on they have been burnt: a low price no longer draws them, effort and experience count for much more.
    """
    season = np.sin(2 * np.pi * week / 78)
    usual = PreferenceWeights(
        base=-0.72,
        quality=1.0,
        fit=2.0 - 0.4 * season,
        price=1.8 + 0.6 * season,
        effort=0.4,
        seriousness=0.5,
        experience=0.3,
        delay=0.25,
        category=0.5 * (demand(week) - 1),
    )
    if change_week is None or week < change_week:
        return usual
    return replace(usual, price=-1.0, effort=0.7, experience=1.2, category=-usual.category)


def true_probability(offers: Offers, weights: PreferenceWeights) -> FloatArray:
    """The chance of each bid, rounded to six decimals (so that it is the same on every machine)."""
    suspiciously_cheap = np.maximum(0.0, -0.35 - offers.price)
    logit = (
        weights.base
        + weights.quality * offers.quality
        + weights.fit * (offers.fit - 0.6)
        - weights.price * offers.price
        - 2 * weights.price * suspiciously_cheap
        + weights.effort * (offers.effort - 2)
        + weights.seriousness * (offers.seriousness - 1)
        + weights.experience * (offers.experience - 1)
        - weights.delay * (np.log1p(offers.hours_since_posting / 12) - 1)
        - 0.25 * offers.at_weekend
        + np.where(offers.is_agency, np.where(offers.duration_weeks > 5, 0.3, -0.2), 0.0)
        + weights.category[offers.category]
    )
    probability: FloatArray = np.round(1 / (1 + np.exp(-logit)), 6)
    return probability
