"""Who bids, and how well the profile fits the job: type, experience, skills, and their overlap with what the job requires.

Point in time: the application keeps only the present state of a profile. Where it was changed at or after the submission of
a bid, its state at that moment is not known, and everything read from it is missing for that bid.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT, TEXTS
from bid_assets.features.base import Encoder, Feature, FeatureFamily, RawTables, bids_of
from bid_assets.windows import TimeRange

FEATURES = (
    Feature("profile_type", TEXT, "`personal` or `agency`"),
    Feature("experience_level", TEXT, "`entry`, `intermediate` or `expert`"),
    Feature("profile_skills", TEXTS, "the profile's skills: lower case, each once, in order"),
    Feature("job_required_skills", TEXTS, "the skills that the job requires, likewise"),
    Feature("profile_skill_count", pa.int32(), "number of the profile's skills"),
    Feature("job_skill_count", pa.int32(), "number of skills that the job requires"),
    Feature("skill_overlap_count", pa.int32(), "required skills that the profile has"),
    Feature("skill_overlap_share", pa.float64(), "overlap / required; missing where the job requires none"),
    Feature("job_category", TEXT, "the job's category"),
    Feature("profile_age_days", pa.float64(), "days since the profile was created; missing where it was created later"),
    Feature("job_age_hours", pa.float64(), "hours since the job was posted; missing where it was posted later"),
)

MICROSECONDS_PER_HOUR = 3_600_000_000


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; an unknown profile or job leaves its features missing."""
    bids = bids_of(tables["raw_bids"], span)
    time = bids["submitted_at"].combine_chunks()
    profiles, jobs = tables["raw_profiles"], tables["raw_jobs"]
    profile_row = _row_of(profiles, bids["profile_id"], time)
    job_row = _row_of(jobs, bids["job_id"], time)
    changed = profiles["updated_at"].combine_chunks().take(profile_row)
    profile_row = pc.if_else(pc.fill_null(pc.greater_equal(changed, time), False), None, profile_row)
    profile_skills, job_skills = normal_skills(profiles["skills"]), normal_skills(jobs["required_skills"])
    required = pc.list_value_length(job_skills).take(job_row)
    overlap = _overlap(profile_skills, job_skills, profile_row, job_row)
    columns = {
        "profile_type": profiles["profile_type"].combine_chunks().take(profile_row),
        "experience_level": profiles["experience_level"].combine_chunks().take(profile_row),
        "profile_skills": profile_skills.take(profile_row),
        "job_required_skills": job_skills.take(job_row),
        "profile_skill_count": pc.list_value_length(profile_skills).take(profile_row),
        "job_skill_count": required,
        "skill_overlap_count": overlap,
        "skill_overlap_share": pc.divide(overlap.cast(pa.float64()), pc.if_else(pc.greater(required, 0), required, None)),
        "job_category": jobs["category"].combine_chunks().take(job_row),
        "profile_age_days": _age(time, profiles["created_at"].combine_chunks().take(profile_row), 24 * MICROSECONDS_PER_HOUR),
        "job_age_hours": _age(time, jobs["posted_at"].combine_chunks().take(job_row), MICROSECONDS_PER_HOUR),
    }
    return FAMILY.table(bids["id"], time, columns)


def normal_skills(skills: pa.ChunkedArray) -> pa.ListArray:
    """Skills as sets: trimmed, lower case, each once, in order. Missing lists stay missing, empty names go."""
    lists = skills.combine_chunks()
    row = pc.list_parent_indices(lists)
    name = pc.utf8_lower(pc.utf8_trim_whitespace(lists.flatten()))
    flat = pa.table({"row": row, "name": name}).filter(pc.and_(pc.is_valid(name), pc.not_equal(pc.fill_null(name, ""), "")))
    flat = flat.group_by(["row", "name"]).aggregate([]).sort_by([("row", "ascending"), ("name", "ascending")])
    counts = np.bincount(flat["row"].to_numpy(), minlength=len(lists)) if len(lists) else np.zeros(0, np.int64)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, flat["name"].combine_chunks(), mask=pc.is_null(lists))


def _row_of(table: pa.Table, keys: pa.ChunkedArray, times: pa.Array) -> pa.Array:
    """For each key the row of `table` that belongs to the bid's own window: the latest window at or before the bid."""
    code_of = pc.unique(table["id"])
    code = pc.index_in(keys, value_set=code_of).combine_chunks()
    known = pc.is_valid(code).to_numpy(zero_copy_only=False)
    table_code = pc.index_in(table["id"], value_set=code_of).to_numpy().astype(np.int64)
    starts = np.unique(table["window"].cast(pa.int64()).to_numpy())
    window = np.searchsorted(starts, table["window"].cast(pa.int64()).to_numpy())
    # (key, window) as one number; a bid looks for its key with the latest window that has begun
    place = table_code * (len(starts) + 1) + window
    order = np.argsort(place, kind="stable")
    begun = np.searchsorted(starts, times.cast(pa.int64()).to_numpy(zero_copy_only=False), side="right") - 1
    wanted = code.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64) * (len(starts) + 1) + begun
    found = np.searchsorted(place[order], wanted, side="right") - 1
    fits = known & (found >= 0)
    row = order[np.where(fits, found, 0)] if len(order) else np.zeros(len(wanted), np.int64)
    fits &= (table_code[row] == code.fill_null(-1).to_numpy(zero_copy_only=False)) if len(order) else False
    return pa.array(row, pa.int64(), mask=~fits)


def _overlap(profile_skills: pa.ListArray, job_skills: pa.ListArray, profile_row: pa.Array, job_row: pa.Array) -> pa.Array:
    """How many required skills the profile has; computed once per distinct pair of profile and job."""
    pairs = pa.table({"profile": profile_row, "job": job_row})
    distinct = pairs.group_by(["profile", "job"]).aggregate([]).drop_null()
    profile, job = distinct["profile"].combine_chunks(), distinct["job"].combine_chunks()
    counts = [
        None if has is None or needs is None else len(set(has) & set(needs))
        for has, needs in zip(profile_skills.take(profile).to_pylist(), job_skills.take(job).to_pylist(), strict=True)
    ]
    width = max(len(job_skills), 1)

    def number(profile_of: pa.Array, job_of: pa.Array) -> pa.Array:
        return pc.add(pc.multiply(profile_of, width), job_of)

    place = pc.index_in(number(profile_row, job_row), value_set=number(profile, job), skip_nulls=True)
    return pa.array(counts, pa.int32()).take(place)


def _age(times: pa.Array, since: pa.Array, unit: int) -> pa.Array:
    age = pc.subtract(times.cast(pa.int64()), since.cast(pa.int64()))
    return pc.divide(pc.if_else(pc.greater_equal(age, 0), age, None).cast(pa.float64()), float(unit))


FAMILY = FeatureFamily(
    name="profile_features",
    description="Who bids: type, experience and skills of the profile, and how well they fit the job.",
    key="bid_id",
    reads=("raw_bids", "raw_profiles", "raw_jobs"),
    features=FEATURES,
    compute=compute,
)
