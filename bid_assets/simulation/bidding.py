"""Who bids on what, when, for how much and with how much effort; and how it ends. Numbers only, no texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bid_assets.common.windows import MICROSECONDS_PER_DAY
from bid_assets.simulation.clock import moments_of_week, weekday
from bid_assets.simulation.jobs import SimulatedJobs
from bid_assets.simulation.options import MarketplaceOptions, RandomStream, integer_count
from bid_assets.simulation.outcome_model import Offers, preference_weights, true_probability
from bid_assets.simulation.profiles import SimulatedProfiles
from bid_assets.simulation.texts import MOST_SPECIFIC
from bid_assets.simulation.vocabulary import CATEGORIES

_OUTSIDE_OWN_CATEGORY = 0.04  # weight of a profile among those who bid on another category's jobs
_MAX_REDRAWS = 5
_TEMPLATE_EFFORT = np.array([-0.8, 0.0, 0.3, 0.9])  # prompt templates ask for more or less detail
_BLANK_TEXT_SHARE = 0.03  # bids without a word


@dataclass(frozen=True)
class SimulatedBids:
    """The bids of one week, by time of submission; one element for each."""

    number: NDArray[np.int64]
    submitted_at: NDArray[np.int64]
    profile: NDArray[np.int64]
    """Row in `SimulatedProfiles`."""
    job: NDArray[np.int64]
    """Row in the open `SimulatedJobs`."""
    amount: NDArray[np.float64]
    template: NDArray[np.int64]
    blank: NDArray[np.int64]
    """0 has a text, 1 an empty one, 2 none."""
    offers: Offers
    probability: NDArray[np.float64]
    success: NDArray[np.bool_]


@dataclass(frozen=True)
class SimulatedOutcomes:
    """The outcomes of one week's bids, known whenever: by bid, then time; the last of a bid is the true one."""

    bid: NDArray[np.int64]
    """Row in `SimulatedBids`."""
    known_at: NDArray[np.int64]
    success: NDArray[np.bool_]
    correction: NDArray[np.bool_]


def bids_of_week(options: MarketplaceOptions, week: int, profiles: SimulatedProfiles, jobs: SimulatedJobs) -> SimulatedBids:
    """The bids of `week` by these people on these open jobs, all of which were posted before or in that week."""
    rng = options.generator(week, RandomStream.BIDS)
    count = integer_count(options.weekly_bids, week)
    submitted = moments_of_week(rng, count, options.microseconds(week))
    patience = np.minimum(rng.exponential(1.3, count), 6.9) * MICROSECONDS_PER_DAY
    job = np.searchsorted(jobs.posted_at, submitted - patience.astype(np.int64)) - 1
    job = job.clip(0)  # the first open job is one of an earlier week
    profile = _bidders(rng, profiles, jobs.category, job)
    template = np.minimum(rng.geometric(0.4, count) - 1, 3)
    effort_logit = profiles.diligence[profile] + _TEMPLATE_EFFORT[template] + 0.7 * rng.standard_normal(count)
    blank = np.digitize(rng.random(count), [1 - _BLANK_TEXT_SHARE, 1 - _BLANK_TEXT_SHARE / 2])
    effort = (rng.random((count, MOST_SPECIFIC)) < 1 / (1 + np.exp(-effort_logit[:, None]))).sum(1)
    price = profiles.pricing[profile] + 0.2 * rng.standard_normal(count)
    amount = np.maximum(5.0, np.round(jobs.budget[job] * np.exp(price) / 5) * 5)
    needs = jobs.needs[job]
    offers = Offers(
        quality=profiles.quality[profile],
        fit=(needs & profiles.skills[profile]).sum(1) / needs.sum(1),
        price=np.log(amount / jobs.budget[job]),
        effort=np.where(blank > 0, 0, effort),
        seriousness=jobs.seriousness[job],
        experience=profiles.experience[profile],
        hours_since_posting=(submitted - jobs.posted_at[job]) / 3.6e9,
        at_weekend=weekday(submitted) >= 5,
        is_agency=profiles.is_agency[profile],
        duration_weeks=jobs.duration_weeks[job],
        category=jobs.category[job],
    )
    probability = true_probability(offers, preference_weights(week, options.change_week))
    first = int(week * options.weekly_bids + 1e-6)
    success = rng.random(count) < probability
    return SimulatedBids(
        first + np.arange(count), submitted, profile, job, amount, template, blank, offers, probability, success
    )


def outcomes_of_bids(options: MarketplaceOptions, week: int, bids: SimulatedBids) -> SimulatedOutcomes:
    """Successes become known after days, failures after weeks, some never; a few are first recorded wrongly."""
    rng = options.generator(week, RandomStream.OUTCOMES)
    count = len(bids.number)
    noise = rng.standard_normal(count)
    days = np.where(bids.success, np.exp(np.log(4.0) + 0.7 * noise), np.exp(np.log(12.0) + 0.8 * noise))
    never = rng.random(count) < np.where(bids.success, 0.02, 0.08)
    known_at = bids.submitted_at + (days * MICROSECONDS_PER_DAY).astype(np.int64)
    decided = np.flatnonzero(~never)
    wrong = np.flatnonzero(~never & (rng.random(count) < 0.015))
    later = known_at[wrong] + ((1 + 9 * rng.random(count)[wrong]) * MICROSECONDS_PER_DAY).astype(np.int64)
    bid = np.concatenate([decided, wrong])
    moment = np.concatenate([known_at[decided], later])
    correction = np.arange(len(bid)) >= len(decided)
    mistaken = np.isin(bid, wrong) & ~correction
    order = np.lexsort((moment, bid))
    return SimulatedOutcomes(bid[order], moment[order], (bids.success[bid] ^ mistaken)[order], correction[order])


def _bidders(
    rng: np.random.Generator, profiles: SimulatedProfiles, category: NDArray[np.int64], job: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A profile for each bid: the active ones more often, mostly on jobs of their own category, hardly ever twice on one."""
    bidder = np.zeros(len(job), np.int64)
    redrawn = np.arange(len(job))
    for _ in range(_MAX_REDRAWS):
        chance = rng.random(len(redrawn))
        for number in range(len(CATEGORIES)):
            weights = np.cumsum(profiles.activity * np.where(profiles.category == number, 1.0, _OUTSIDE_OWN_CATEGORY))
            rows = category[job[redrawn]] == number
            bidder[redrawn[rows]] = np.searchsorted(weights[:-1], chance[rows] * weights[-1])
        _, first = np.unique(job * len(profiles) + bidder, return_index=True)
        redrawn = np.setdiff1d(np.arange(len(job)), first)
    return bidder
