"""The jobs of the simulated market: what is needed, for which budget, by how serious a client."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bid_assets.simulation.clock import moments_of_week
from bid_assets.simulation.options import MarketplaceOptions, integer_count
from bid_assets.simulation.outcome_model import demand
from bid_assets.simulation.vocabulary import CATEGORIES, INDUSTRIES, SKILLS, SKILLS_PER_CATEGORY

_BIDS_PER_JOB = 6.0
_CLIENTS_PER_WEEKLY_JOB = 12


@dataclass(frozen=True)
class SimulatedJobs:
    """Jobs, one element (or row) for each, by the time of posting."""

    number: NDArray[np.int64]
    posted_at: NDArray[np.int64]
    category: NDArray[np.int64]
    needs: NDArray[np.bool_]
    """jobs x skills: what the work really needs; the description names all of it."""
    listed: NDArray[np.bool_]
    """jobs x skills: the part of it that the client remembered to list."""
    budget: NDArray[np.float64]
    duration_weeks: NDArray[np.int64]
    is_fixed_price: NDArray[np.bool_]
    client: NDArray[np.int64]
    rating: NDArray[np.float64]
    """The client's rating, 1 to 5; a noisy sign of seriousness."""
    seriousness: NDArray[np.int64]
    """0 only looking around, 1 ordinary, 2 decided; seen only in the description."""
    deliverable: NDArray[np.int64]
    industry: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.number)

    def joined_by(self, others: Self) -> Self:
        """These jobs and then the others."""
        pairs = ((getattr(self, field.name), getattr(others, field.name)) for field in fields(self))
        return type(self)(*(np.concatenate(pair) for pair in pairs))


def jobs_of_week(options: MarketplaceOptions, week: int, rng: np.random.Generator) -> SimulatedJobs:
    """The jobs posted in `week` (-1: those that are open when the market opens); at least one."""
    rate = max(1.0, options.weekly_bids / _BIDS_PER_JOB)
    first = int((week + 1) * rate + 1e-6)  # those of week -1 come first
    count = integer_count(rate, week + 1)
    category = np.searchsorted(np.cumsum(demand(week))[:-1], rng.random(count) * demand(week).sum())
    needs = _needs(rng, category)
    size = rng.standard_normal(count)
    median = np.array([category.median_budget for category in CATEGORIES])[category]
    budget = median * np.exp(0.6 * size + 0.1 * (needs.sum(1) - 4))
    seriousness = np.digitize(rng.random(count), [0.3, 0.7])
    clients = int(_CLIENTS_PER_WEEKLY_JOB * rate)
    return SimulatedJobs(
        number=first + np.arange(count),
        posted_at=moments_of_week(rng, count, options.microseconds(week)),
        category=category,
        needs=needs,
        listed=needs & (rng.random(needs.shape) < 0.9),
        budget=np.maximum(30.0, np.round(budget / 10) * 10),
        duration_weeks=np.clip(np.round(np.exp(1.1 + 0.5 * size + 0.4 * rng.standard_normal(count))), 1, 26).astype(np.int64),
        is_fixed_price=rng.random(count) < 0.6,
        client=(clients * rng.random(count) ** 2.5).astype(np.int64),  # a few clients post many jobs
        rating=np.clip(np.round(4.0 + 0.3 * (seriousness - 1) + 0.5 * rng.standard_normal(count), 1), 1.0, 5.0),
        seriousness=seriousness,
        deliverable=rng.integers(len(CATEGORIES[0].deliverables), size=count),
        industry=rng.integers(len(INDUSTRIES), size=count),
    )


def _needs(rng: np.random.Generator, category: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Two to five skills of the category for each job."""
    count = len(category)
    rank = np.argsort(np.argsort(rng.random((count, SKILLS_PER_CATEGORY)), axis=1), axis=1)
    needs = np.zeros((count, len(SKILLS)), np.bool_)
    columns = category[:, None] * SKILLS_PER_CATEGORY + np.arange(SKILLS_PER_CATEGORY)
    needs[np.arange(count)[:, None], columns] = rank < rng.integers(2, 6, size=(count, 1))
    return needs
