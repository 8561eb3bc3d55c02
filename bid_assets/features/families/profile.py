"""Feature family: the profile and how well it fits the job: type, experience, skills, skill overlap, ages.

Point in time: the application keeps only the present state of a profile. Where it was changed at or after the submission of
a bid, its state at that moment is not known, and everything read from it but its creation is missing for that bid.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_JOBS, RAW_PROFILES, TEXT, TEXTS
from bid_assets.common.windows import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from bid_assets.features.family import Feature, FeatureFamily
from bid_assets.features.inputs import BidContext, RawRow
from bid_assets.features.mapping import RowDefinition

_UNKNOWN: RawRow = dict.fromkeys([*RAW_PROFILES.names, *RAW_JOBS.names])
"""What is known of a profile or a job that is not known."""

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


def features_of(bid: BidContext) -> dict[str, Any]:
    """The features of one bid; an unknown profile or job leaves its features missing."""
    profile, job = (_UNKNOWN if row is None else row for row in (bid.profile, bid.job))
    state = _UNKNOWN if is_changed_since(bid) else profile
    skills, required = _normalize(state["skills"]), _normalize(job["required_skills"])
    overlap = None if skills is None or required is None else len(set(skills).intersection(required))
    return {
        "profile_type": state["profile_type"],
        "experience_level": state["experience_level"],
        "profile_skills": skills,
        "job_required_skills": required,
        "profile_skill_count": None if skills is None else len(skills),
        "job_skill_count": None if required is None else len(required),
        "skill_overlap_count": overlap,
        "skill_overlap_share": overlap / len(required) if required and overlap is not None else None,
        "job_category": job["category"],
        "profile_age_days": _units_since(profile["created_at"], bid.at, MICROSECONDS_PER_DAY),
        "job_age_hours": _units_since(job["posted_at"], bid.at, MICROSECONDS_PER_HOUR),
    }


def is_changed_since(bid: BidContext) -> bool:
    """Whether the bid's profile was changed at or after the bid's submission."""
    changed = None if bid.profile is None else bid.profile["updated_at"]
    return changed is not None and changed >= bid.at


def _normalize(names: Sequence[str | None] | None) -> tuple[str, ...] | None:
    return None if names is None else normalize_skills(tuple(names))


@lru_cache(maxsize=4096)
def normalize_skills(names: tuple[str | None, ...]) -> tuple[str, ...]:
    """Skills as a set: trimmed, lower case, each once, in order; empty names go."""
    return tuple(sorted({clean for name in names if name is not None and (clean := _normalize_name(name))}))


@lru_cache(maxsize=4096)
def _normalize_name(name: str) -> str:
    """By Arrow, whose notions of white space and lower case are not quite Python's."""
    return str(pc.utf8_lower(pc.utf8_trim_whitespace(pa.scalar(name, TEXT))).as_py())


def _units_since(since: int | None, at: int, unit: int) -> float | None:
    return None if since is None or since > at else (at - since) / unit


FAMILY = FeatureFamily(
    name="profile_features",
    description="Who bids: type, experience and skills of the profile, and how well they fit the job.",
    key="bid_id",
    reads=("raw_bids", "raw_profiles", "raw_jobs"),
    features=FEATURES,
    definition=RowDefinition(features_of),
    row_counts={"bids_with_a_profile_changed_since": is_changed_since},
)
