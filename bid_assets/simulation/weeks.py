"""The simulated market as it goes on: an endless sequence of weeks, each with its tables in the application's contract.

A week's chance depends on the seed and the week alone, its state on the weeks before. So the first n weeks are the same
however long the market is watched, and whoever watches on sees the same people again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bid_assets.app_db import contract
from bid_assets.simulation import corruption
from bid_assets.simulation.bidding import SimulatedBids, SimulatedOutcomes, bids_of_week, outcomes_of_bids
from bid_assets.simulation.jobs import SimulatedJobs, jobs_of_week
from bid_assets.simulation.options import MarketplaceOptions, RandomStream
from bid_assets.simulation.profiles import NEVER, SimulatedProfiles, initial_profiles, profiles_after_week
from bid_assets.simulation.texts import bid_texts, full_names, job_texts, skill_names
from bid_assets.simulation.vocabulary import CATEGORIES

TRUTH = pa.schema(
    [
        pa.field("bid_id", pa.string(), nullable=False),
        pa.field("profile_id", pa.string(), nullable=False),
        pa.field("week", pa.int32(), nullable=False),
        pa.field("true_probability", pa.float64(), nullable=False),
        pa.field("is_success", pa.bool_(), nullable=False),
        pa.field("quality", pa.float64(), nullable=False),
        pa.field("fit", pa.float64(), nullable=False),
        pa.field("effort", pa.int64(), nullable=False),
        pa.field("seriousness", pa.int64(), nullable=False),
    ]
)
"""What only the simulation knows of each bid; `is_success` is how it ends, whenever that becomes known, if ever."""


def _application_schema(raw: pa.Schema) -> pa.Schema:
    """What the application stores of a raw table: lists as JSON text; nothing is enforced."""
    return pa.schema([(f.name, contract.TEXT if f.type == contract.TEXTS else f.type) for f in raw if f.name != "window"])


PROFILES = _application_schema(contract.RAW_PROFILES)
JOBS = _application_schema(contract.RAW_JOBS)
BIDS = _application_schema(contract.RAW_BIDS)
OUTCOMES = _application_schema(contract.RAW_BID_OUTCOMES)


@dataclass(frozen=True)
class MarketWeek:
    """What happens in one week. `outcomes` are those of the week's bids, whenever they become known."""

    profiles: SimulatedProfiles
    """At the end of the week."""
    jobs: pa.Table
    bids: pa.Table
    outcomes: pa.Table
    truth: pa.Table


def market_weeks(options: MarketplaceOptions) -> Iterator[MarketWeek]:
    """All weeks from the first one on, without end. The jobs that were open before belong to the first."""
    profiles = initial_profiles(options)
    before, before_table = _jobs(options, -1)
    week = 0
    while True:
        jobs, table = _jobs(options, week)
        posted = table if week else pa.concat_tables([before_table, table])
        open_jobs = before.joined_by(jobs)
        bids = bids_of_week(options, week, profiles, open_jobs)
        bid_table = _bid_table(options, week, bids, profiles, open_jobs)
        outcome_table = _outcome_table(bid_table, outcomes_of_bids(options, week, bids))
        chance = options.generator(week, RandomStream.CORRUPTION)
        posted = corruption.jobs(posted, chance, options.corruption_share)
        truth = _truth(week, bids)
        profiles = profiles_after_week(profiles, options, week)
        yield MarketWeek(profiles, posted, *corruption.bids(bid_table, outcome_table, chance, options.corruption_share), truth)
        before, week = jobs, week + 1


def profile_table(options: MarketplaceOptions, profiles: SimulatedProfiles) -> pa.Table:
    """The profiles as the application shows them, quality and habits left out."""
    levels, kinds = np.array(["entry", "intermediate", "expert"]), np.array(["personal", "agency"])
    table = pa.table(
        {
            "id": _ids("profile", np.arange(len(profiles))),
            "name": full_names(profiles.name),
            "profile_type": kinds[profiles.is_agency.astype(int)],
            "experience_level": levels[profiles.experience],
            "skills": _json_lists(profiles.skills),
            "created_at": _times(profiles.created_at),
            "updated_at": _times(profiles.updated_at, profiles.updated_at == NEVER),
        },
        PROFILES,
    )
    return corruption.profiles(table, options.generator(-1, RandomStream.PROFILE_CORRUPTION), options.corruption_share)


def _jobs(options: MarketplaceOptions, week: int) -> tuple[SimulatedJobs, pa.Table]:
    rng = options.generator(week, RandomStream.JOBS)
    jobs = jobs_of_week(options, week, rng)
    titles, descriptions = job_texts(jobs, rng)
    categories = np.array([category.name for category in CATEGORIES])
    columns = {
        "id": _ids("job", jobs.number),
        "title": titles,
        "description": descriptions,
        "category": categories[jobs.category],
        "required_skills": _json_lists(jobs.listed),
        "client_id": _ids("client", jobs.client),
        "posted_at": _times(jobs.posted_at),
    }
    return jobs, pa.table(columns, JOBS)


def _bid_table(
    options: MarketplaceOptions, week: int, bids: SimulatedBids, profiles: SimulatedProfiles, jobs: SimulatedJobs
) -> pa.Table:
    """The bids as submitted: all of them still open."""
    rng = options.generator(week, RandomStream.BID_TEXTS)
    names = full_names(profiles.name[bids.profile])
    texts = bid_texts(rng, jobs, bids.job, profiles.skills[bids.profile], bids.offers.effort, names)
    texts = ["" if blank else text for text, blank in zip(texts, bids.blank.tolist(), strict=True)]
    terms = [
        f'{{"budget": {budget:.0f}, "duration_weeks": {weeks}, "is_fixed_price": {"true" if fixed else "false"}}}'
        for budget, weeks, fixed in zip(
            jobs.budget.tolist(), jobs.duration_weeks.tolist(), jobs.is_fixed_price.tolist(), strict=True
        )
    ]
    signals = [f'{{"client_rating": {rating}}}' for rating in jobs.rating.tolist()]
    columns = {
        "id": _ids("bid", bids.number),
        "profile_id": _ids("profile", bids.profile),
        "job_id": _ids("job", jobs.number[bids.job]),
        "amount": bids.amount,
        "generated_bid_text": pa.array(texts, contract.TEXT, mask=bids.blank == 2),
        "status": pa.repeat("submitted", len(texts)),
        "prompt_template_id": _ids("template", bids.template),
        "bid_settings_snapshot": pa.array(terms).take(bids.job),
        "external_signals_snapshot": pa.array(signals).take(bids.job),
        "submitted_at": _times(bids.submitted_at),
    }
    return pa.table(columns, BIDS)


def _outcome_table(bids: pa.Table, outcomes: SimulatedOutcomes) -> pa.Table:
    bid_id = bids["id"].take(outcomes.bid)
    kind = np.array(["outcome", "correction"])[outcomes.correction.astype(int)]
    details = np.array(["not chosen", "hired"])[outcomes.success.astype(int)]
    columns = {
        "id": [f"{k}-of-{bid}" for k, bid in zip(kind.tolist(), bid_id.to_pylist(), strict=True)],
        "bid_id": bid_id,
        "is_success": outcomes.success,
        "outcome_timestamp": _times(outcomes.known_at),
        "details": np.where(outcomes.correction, "corrected: ", "").astype(object) + details.astype(object),
    }
    return pa.table(columns, OUTCOMES)


def _truth(week: int, bids: SimulatedBids) -> pa.Table:
    columns = {
        "bid_id": _ids("bid", bids.number),
        "profile_id": _ids("profile", bids.profile),
        "week": np.full(len(bids.number), week, np.int32),
        "true_probability": bids.probability,
        "is_success": bids.success,
        "quality": np.round(bids.offers.quality, 6),
        "fit": np.round(bids.offers.fit, 6),
        "effort": bids.offers.effort,
        "seriousness": bids.offers.seriousness,
    }
    return pa.table(columns, TRUTH)


def _ids(kind: str, numbers: NDArray[np.int64]) -> pa.Array:
    return pa.array([f"{kind}-{number:07d}" for number in numbers.tolist()], contract.TEXT)


def _times(microseconds: NDArray[np.int64], missing: NDArray[np.bool_] | None = None) -> pa.Array:
    return pa.array(microseconds, pa.int64(), mask=missing).cast(contract.TIME)


def _json_lists(has: NDArray[np.bool_]) -> list[str]:
    return [json.dumps(names) for names in skill_names(has)]
