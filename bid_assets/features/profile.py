"""Who bids, and how well the profile fits the job: type, experience, skills, and their overlap with what the job requires.

Point in time: the application keeps only the present state of a profile. Where it was changed at or after the submission of
a bid, its state at that moment is not known, and everything read from it but its creation is missing for that bid.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT, TEXTS
from bid_assets.features.base import Encoder, Feature, FeatureFamily, RawTables, bids_of, row_of
from bid_assets.windows import TimeRange

MICROSECONDS_PER_HOUR = 3_600_000_000

FEW = 64
"""So few lists of skills are looked at one by one. A service asks about one bid at a time, and every step over columns costs it
microseconds; the steps are for the hundred thousands of a training."""

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


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; an unknown profile or job leaves its features missing."""
    bids = _bids(tables, span)
    profiles, jobs = tables["raw_profiles"].combine_chunks(), tables["raw_jobs"].combine_chunks()
    profile, job = row_of(profiles, bids["profile_id"], bids), row_of(jobs, bids["job_id"], bids)
    state = pc.if_else(_changed_since(profiles, profile, bids), None, profile)
    has, requires = normal_skills(profiles["skills"]), normal_skills(jobs["required_skills"])
    skills, wanted = has.take(state), requires.take(job)
    required, overlap = pc.list_value_length(wanted), _overlap(has, state, skills, wanted)
    columns = {
        "profile_type": profiles["profile_type"].take(state),
        "experience_level": profiles["experience_level"].take(state),
        "profile_skills": skills,
        "job_required_skills": wanted,
        "profile_skill_count": pc.list_value_length(skills),
        "job_skill_count": required,
        "skill_overlap_count": overlap,
        "skill_overlap_share": pc.divide(overlap.cast(pa.float64()), pc.if_else(pc.greater(required, 0), required, None)),
        "job_category": jobs["category"].take(job),
        "profile_age_days": _hours_since(profiles["created_at"].take(profile), bids, per_unit=24),
        "job_age_hours": _hours_since(jobs["posted_at"].take(job), bids),
    }
    return FAMILY.table(bids["id"], bids["submitted_at"], columns)


def remarks(tables: RawTables, span: TimeRange) -> dict[str, int]:
    """How many bids of `span` have a profile that was changed at or after their submission."""
    bids, profiles = _bids(tables, span), tables["raw_profiles"]
    changed = _changed_since(profiles, row_of(profiles, bids["profile_id"], bids), bids)
    return {"bids_with_a_profile_changed_since": pc.sum(changed, min_count=0).as_py()}


def normal_skills(skills: pa.ChunkedArray) -> pa.ListArray:
    """Skills as sets: trimmed, lower case, each once, in order. Missing lists stay missing, empty names go."""
    lists = skills.combine_chunks()
    if len(lists) <= FEW:
        return pa.array([names if names is None else _normal(names) for names in lists.to_pylist()], TEXTS)
    given = lists.flatten().dictionary_encode()  # few skills, many lists: a name is cleaned once
    clean = pc.utf8_lower(pc.utf8_trim_whitespace(given.dictionary))
    names = pc.unique(clean.filter(pc.greater(pc.utf8_length(clean), 0)))
    names = names.take(pc.sort_indices(names))
    item = _pairs(pc.list_parent_indices(lists), pc.index_in(clean, value_set=names).take(given.indices), len(names))
    item = np.sort(item.drop_null().to_numpy())
    row, name = np.divmod(item[np.diff(item, prepend=-1) != 0], max(len(names), 1))
    offsets = np.searchsorted(row, np.arange(len(lists) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(name)), mask=pc.is_null(lists))


def _normal(names: list[str | None]) -> list[str]:
    return sorted({clean for name in names if name is not None and (clean := _clean(name))})


@lru_cache(maxsize=4096)
def _clean(name: str) -> str:
    """By Arrow, as above: Python's own notions of white space and lower case are not quite the same."""
    return str(pc.utf8_lower(pc.utf8_trim_whitespace(pa.scalar(name, TEXT))).as_py())


def _bids(tables: RawTables, span: TimeRange) -> pa.Table:
    return bids_of(tables["raw_bids"].select(["id", "profile_id", "job_id", "submitted_at"]), span)


def _changed_since(profiles: pa.Table, row: pa.Array, bids: pa.Table) -> pa.Array:
    """Whether the profile was changed at or after the bid's submission."""
    changed = profiles["updated_at"].take(row)
    return pc.fill_null(pc.greater_equal(changed, bids["submitted_at"]), False).combine_chunks()


def _overlap(has: pa.ListArray, profile: pa.Array, skills: pa.ListArray, wanted: pa.ListArray) -> pa.Array:
    """How many of the skills `wanted` for each bid its `profile` (rows of `has`: `skills`) has; null if not known."""
    if len(wanted) <= FEW:
        both = zip(skills.to_pylist(), wanted.to_pylist(), strict=True)
        return pa.array([None if a is None or b is None else len(set(a).intersection(b)) for a, b in both], pa.int32())
    owner, owned = pc.list_parent_indices(has), has.flatten()
    names = pc.unique(owned)
    pairs = np.sort(_pairs(owner, pc.index_in(owned, value_set=names), len(names)).to_numpy())
    bid, name = pc.list_parent_indices(wanted), pc.index_in(wanted.flatten(), value_set=names)
    pair = pc.fill_null(_pairs(profile.take(bid), name, len(names)), -1).to_numpy()
    met = np.append(pairs, -2)[np.searchsorted(pairs, pair)] == pair
    counts = np.bincount(bid.to_numpy()[met], minlength=len(wanted))
    known = pc.and_(pc.is_valid(skills), pc.is_valid(wanted))
    return pa.array(counts, pa.int32(), mask=pc.invert(known).to_numpy(zero_copy_only=False))


def _pairs(row: pa.Array, code: pa.Array, codes: int) -> pa.Array:
    """(row, code below `codes`) as one number, in the order of both; null where either is."""
    return pc.add(pc.multiply(row.cast(pa.int64()), codes), code.cast(pa.int64()))


def _hours_since(moments: pa.ChunkedArray, bids: pa.Table, per_unit: int = 1) -> pa.ChunkedArray:
    """Hours (or units of `per_unit` hours) from the moment to the bid; missing where the moment is later."""
    age = pc.subtract(bids["submitted_at"].cast(pa.int64()), moments.cast(pa.int64()))
    age = pc.cast(pc.if_else(pc.greater_equal(age, 0), age, None), pa.float64(), safe=False)  # safe: an error beyond 285 years
    return pc.divide(age, float(per_unit * MICROSECONDS_PER_HOUR))


FAMILY = FeatureFamily(
    name="profile_features",
    description="Who bids: type, experience and skills of the profile, and how well they fit the job.",
    key="bid_id",
    reads=("raw_bids", "raw_profiles", "raw_jobs"),
    features=FEATURES,
    compute=compute,
    remarks=remarks,
)
