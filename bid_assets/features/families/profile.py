"""Feature family: the profile and how well it fits the job: type, experience, skills, skill overlap, ages.

Point in time: the application keeps only the present state of a profile. Where it was changed at or after the submission of
a bid, its state at that moment is not known, and everything read from it but its creation is missing for that bid.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT, TEXTS
from bid_assets.common.windows import TimeRange
from bid_assets.features.family import Encoder, Feature, FeatureFamily, RawTables, as_of_row_index, bids_in_span, take_or_null
from bid_assets.features.inputs import BidContext
from bid_assets.features.interval_counts import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, NEVER, Integers, microseconds

FEATURES = (
    Feature("profile_type", TEXT, "`personal` or `agency`"),
    Feature("experience_level", TEXT, "`entry`, `intermediate` or `expert`"),
    Feature("profile_skills", TEXTS, "the profile's skills: lower case, each once, in order"),
    Feature("job_required_skills", TEXTS, "the skills that the job requires, likewise"),
    Feature("profile_skill_count", pa.int32(), "number of the profile's skills"),
    Feature("job_skill_count", pa.int32(), "number of skills that the job requires"),
    Feature("skill_overlap_count", pa.int32(), "required skills that the profile has; missing where either is not known"),
    Feature("skill_overlap_share", pa.float64(), "overlap / required; missing where the job requires none"),
    Feature("job_category", TEXT, "the job's category"),
    Feature("profile_age_days", pa.float64(), "days since the profile was created; missing where it was created later"),
    Feature("job_age_hours", pa.float64(), "hours since the job was posted; missing where it was posted later"),
)


def compute_table(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; an unknown profile or job leaves its features missing."""
    bids = _bids(tables, span)
    profiles, jobs = tables["raw_profiles"].combine_chunks(), tables["raw_jobs"].combine_chunks()
    profile, job = as_of_row_index(profiles, bids["profile_id"], bids), as_of_row_index(jobs, bids["job_id"], bids)
    state = np.where(_changed_since(profiles, profile, bids), -1, profile)
    has, requires = normalize_skills(profiles["skills"]), normalize_skills(jobs["required_skills"])
    skills, required = take_or_null(has, state), take_or_null(requires, job)
    required_count, overlap = pc.list_value_length(required), _overlap(has, state, skills, required)
    columns = {
        "profile_type": take_or_null(profiles["profile_type"], state),
        "experience_level": take_or_null(profiles["experience_level"], state),
        "profile_skills": skills,
        "job_required_skills": required,
        "profile_skill_count": pc.list_value_length(skills),
        "job_skill_count": required_count,
        "skill_overlap_count": overlap,
        "skill_overlap_share": _share(overlap, required_count),
        "job_category": take_or_null(jobs["category"], job),
        "profile_age_days": _hours_since(profiles["created_at"], profile, bids, per_unit=24),
        "job_age_hours": _hours_since(jobs["posted_at"], job, bids),
    }
    return FAMILY.table(bids["id"], bids["submitted_at"], columns)


def row_counts_metadata(tables: RawTables, span: TimeRange) -> dict[str, int]:
    """The number of bids of `span` whose profile was changed at or after their submission."""
    bids, profiles = _bids(tables, span), tables["raw_profiles"]
    changed = _changed_since(profiles, as_of_row_index(profiles, bids["profile_id"], bids), bids)
    return {"bids_with_a_profile_changed_since": int(changed.sum())}


def normalize_skills(skills: pa.ChunkedArray) -> pa.ListArray:
    """Skills as sets: trimmed, lower case, each once, in order. Missing lists stay missing, empty names go."""
    lists = skills.combine_chunks()
    skill = lists.flatten().dictionary_encode()  # few skills, many lists: a name is cleaned once
    clean = pc.utf8_lower(pc.utf8_trim_whitespace(skill.dictionary))
    names = pc.unique(clean.filter(pc.greater(pc.utf8_length(clean), 0)))
    names = names.take(pc.sort_indices(names))
    item = _pairs(pc.list_parent_indices(lists), pc.index_in(clean, value_set=names).take(skill.indices), len(names))
    item = np.sort(item.drop_null().to_numpy())
    row, name = np.divmod(item[np.diff(item, prepend=-1) != 0], max(len(names), 1))
    offsets = np.searchsorted(row, np.arange(len(lists) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(name)), mask=pc.is_null(lists))


def compute_rows(bids: Sequence[BidContext], encoder: Encoder | None) -> list[dict[str, Any]]:
    """The features of each bid, in order."""
    return [_features_of(bid) for bid in bids]


def _features_of(bid: BidContext) -> dict[str, Any]:
    profile, job = bid.profile or {}, bid.job or {}
    changed = profile.get("updated_at")
    state = profile if changed is None or changed < bid.at else {}
    skills, required = _normalize(state.get("skills")), _normalize(job.get("required_skills"))
    overlap = None if skills is None or required is None else len(set(skills).intersection(required))
    return {
        "profile_type": state.get("profile_type"),
        "experience_level": state.get("experience_level"),
        "profile_skills": skills,
        "job_required_skills": required,
        "profile_skill_count": None if skills is None else len(skills),
        "job_skill_count": None if required is None else len(required),
        "skill_overlap_count": overlap,
        "skill_overlap_share": overlap / len(required) if required and overlap is not None else None,
        "job_category": job.get("category"),
        "profile_age_days": _units_since(profile.get("created_at"), bid.at, MICROSECONDS_PER_DAY),
        "job_age_hours": _units_since(job.get("posted_at"), bid.at, MICROSECONDS_PER_HOUR),
    }


def _normalize(names: Sequence[str | None] | None) -> list[str] | None:
    if names is None:
        return None
    return sorted({clean for name in names if name is not None and (clean := _normalize_name(name))})


def _units_since(since: int | None, at: int, unit: int) -> float | None:
    return None if since is None or since > at else (at - since) / unit


@lru_cache(maxsize=4096)
def _normalize_name(name: str) -> str:
    """By Arrow, as `normalize_skills`: Python's own notions of white space and lower case are not quite the same."""
    return str(pc.utf8_lower(pc.utf8_trim_whitespace(pa.scalar(name, TEXT))).as_py())


def _bids(tables: RawTables, span: TimeRange) -> pa.Table:
    return bids_in_span(tables["raw_bids"].select(["id", "profile_id", "job_id", "submitted_at"]), span)


def _changed_since(profiles: pa.Table, row: Integers, bids: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether the profile was changed at or after the bid's submission."""
    return np.asarray(_times_at(profiles["updated_at"], row) >= microseconds(bids["submitted_at"]))


def _times_at(times: pa.ChunkedArray, row: Integers) -> Integers:
    """The time at each row, in microseconds; `NEVER` where there is none."""
    return np.asarray(np.append(microseconds(times), NEVER)[row])


def _overlap(has: pa.ListArray, profile: Integers, skills: pa.ListArray, required: pa.ListArray) -> pa.Array:
    """How many of the `required` skills of each bid its `profile` (rows of `has`: `skills`) has; null if not known."""
    owner, owned = pc.list_parent_indices(has), has.flatten()
    names = pc.unique(owned)
    pairs = np.sort(_pairs(owner, pc.index_in(owned, value_set=names), len(names)).to_numpy())
    bid, name = pc.list_parent_indices(required), pc.index_in(required.flatten(), value_set=names)
    owner_of_bid = pa.array(profile, mask=profile < 0)
    pair = pc.fill_null(_pairs(owner_of_bid.take(bid), name, len(names)), -1).to_numpy()
    met = np.append(pairs, -2)[np.searchsorted(pairs, pair)] == pair
    counts = np.bincount(bid.to_numpy()[met], minlength=len(required))
    known = pc.and_(pc.is_valid(skills), pc.is_valid(required))
    return pa.array(counts, pa.int32(), mask=pc.invert(known).to_numpy(zero_copy_only=False))


def _share(overlap: pa.Array, required: pa.Array) -> pa.Array:
    """Overlap / required; missing where either is, or nothing is required."""
    part, whole = (each.to_numpy(zero_copy_only=False).astype(np.float64) for each in (overlap, required))
    known = (whole > 0) & ~np.isnan(part)
    return pa.array(np.divide(part, whole, out=np.zeros_like(part), where=known), mask=~known)


def _pairs(row: pa.Array, code: pa.Array, codes: int) -> pa.Array:
    """(row, code below `codes`) as one number, in the order of both; null where either is."""
    return pc.add(pc.multiply(row.cast(pa.int64()), codes), code.cast(pa.int64()))


def _hours_since(times: pa.ChunkedArray, row: Integers, bids: pa.Table, per_unit: int = 1) -> pa.Array:
    """Hours (or units of `per_unit` hours) from the time at each row to the bid; missing where that is later."""
    since, submitted = _times_at(times, row), microseconds(bids["submitted_at"])
    missing = (since == NEVER) | (since > submitted)
    age = np.where(missing, 0, submitted - since)
    return pa.array(age / (per_unit * MICROSECONDS_PER_HOUR), mask=missing)


FAMILY = FeatureFamily(
    name="profile_features",
    description="Who bids: type, experience and skills of the profile, and how well they fit the job.",
    key="bid_id",
    reads=("raw_bids", "raw_profiles", "raw_jobs"),
    features=FEATURES,
    compute_table=compute_table,
    compute_rows=compute_rows,
    row_counts_metadata=row_counts_metadata,
)
