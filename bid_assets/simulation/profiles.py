"""The profiles of the simulated market and their hidden side: quality, activity, habits. They join, learn and drift weekly."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bid_assets.common.windows import MICROSECONDS_PER_DAY
from bid_assets.simulation.options import MarketplaceOptions, RandomStream, integer_count
from bid_assets.simulation.vocabulary import CATEGORIES, SKILLS, SKILLS_PER_CATEGORY

NEVER = np.int64(-1)

_INITIAL_PER_WEEKLY_BID = 0.4
_JOINING_PER_WEEKLY_BID = 0.005
_QUALITY_SPREAD = 0.8
_QUALITY_MEMORY = 0.99  # of one week: half of a quality is forgotten after 69 weeks
_LEARNING_PER_WEEK = 0.004


@dataclass(frozen=True)
class SimulatedProfiles:
    """All profiles at one moment, one element (or row) for each, in the order in which they joined."""

    created_at: NDArray[np.int64]
    updated_at: NDArray[np.int64]
    """When a skill was last added, microseconds; `NEVER` where none was."""
    category: NDArray[np.int64]
    """The category of most of their bids."""
    skills: NDArray[np.bool_]
    """profiles x skills."""
    experience: NDArray[np.int64]
    """0 entry, 1 intermediate, 2 expert."""
    is_agency: NDArray[np.bool_]
    name: NDArray[np.int64]
    """Numbers one of the possible names."""
    activity: NDArray[np.float64]
    """How often they bid, relative to others; heavy-tailed."""
    quality: NDArray[np.float64]
    """What they really deliver; seen by nobody but in their outcomes. Drifts."""
    pricing: NDArray[np.float64]
    """Their habit: usual log of amount / budget."""
    diligence: NDArray[np.float64]
    """Their habit: how much effort they put into a bid."""

    def __len__(self) -> int:
        return len(self.created_at)

    def joined_by(self, others: Self) -> Self:
        """These profiles and then the others."""
        pairs = ((getattr(self, field.name), getattr(others, field.name)) for field in fields(self))
        return type(self)(*(np.concatenate(pair) for pair in pairs))


def initial_profiles(options: MarketplaceOptions) -> SimulatedProfiles:
    """Those who are there when the market opens; they joined in the three years before."""
    rng = options.generator(-1, RandomStream.PROFILES)
    count = max(20, int(_INITIAL_PER_WEEKLY_BID * options.weekly_bids))
    age = rng.random(count) ** 2 * 3 * 365 * MICROSECONDS_PER_DAY
    return _draw(rng, np.sort(options.microseconds(0) - age.astype(np.int64) - 1))


def profiles_after_week(profiles: SimulatedProfiles, options: MarketplaceOptions, week: int) -> SimulatedProfiles:
    """The profiles at the end of `week`: qualities have drifted, some have learnt a skill, a few have joined."""
    rng = options.generator(week, RandomStream.PROFILES)
    start = options.microseconds(week)
    count = len(profiles)
    shock = rng.standard_normal(count) * _QUALITY_SPREAD * np.sqrt(1 - _QUALITY_MEMORY**2)
    learns = rng.random(count) < _LEARNING_PER_WEEK
    skill = profiles.category * SKILLS_PER_CATEGORY + rng.integers(SKILLS_PER_CATEGORY, size=count)
    moment = start + _moments(rng, count)
    learns &= ~profiles.skills[np.arange(count), skill]
    skills = profiles.skills.copy()
    skills[learns.nonzero()[0], skill[learns]] = True
    joining = integer_count(_JOINING_PER_WEEKLY_BID * options.weekly_bids, week)
    newcomers = _draw(rng, np.sort(start + _moments(rng, joining)))
    changed = {"quality": profiles.quality * _QUALITY_MEMORY + shock, "skills": skills}
    changed["updated_at"] = np.where(learns, moment, profiles.updated_at)
    previous = {field.name: getattr(profiles, field.name) for field in fields(profiles)}
    return SimulatedProfiles(**(previous | changed)).joined_by(newcomers)


def _moments(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    return (rng.random(count) * 7 * MICROSECONDS_PER_DAY).astype(np.int64)


def _draw(rng: np.random.Generator, created_at: NDArray[np.int64]) -> SimulatedProfiles:
    """New profiles, one for each time of joining. The better ones tend to be experienced and diligent, but not always."""
    count = len(created_at)
    talent = rng.standard_normal(count)
    category = rng.integers(len(CATEGORIES), size=count)
    own = np.arange(len(SKILLS)) // SKILLS_PER_CATEGORY == category[:, None]
    breadth = 0.35 + 0.5 * rng.random((count, 1))
    return SimulatedProfiles(
        created_at=created_at,
        updated_at=np.full(count, NEVER),
        category=category,
        skills=rng.random((count, len(SKILLS))) < np.where(own, breadth, 0.02),
        experience=np.digitize(0.4 * talent + rng.standard_normal(count), [-0.4, 0.8]),
        is_agency=rng.random(count) < 0.25,
        name=rng.integers(2**31, size=count),
        activity=np.exp(1.3 * rng.standard_normal(count)),
        quality=_QUALITY_SPREAD * talent,
        pricing=0.22 * rng.standard_normal(count),
        diligence=0.2 * talent + 0.8 * rng.standard_normal(count),
    )
