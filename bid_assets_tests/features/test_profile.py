from __future__ import annotations

from datetime import timedelta

import pyarrow as pa

from bid_assets.app_db import contract
from bid_assets.features.profile import FAMILY
from bid_assets.windows import TimeRange
from bid_assets_tests.features.tables import START, at, table_of

SPAN = TimeRange(START, START + timedelta(weeks=4))


def features(
    bids: list[dict[str, object]], profiles: list[dict[str, object]], jobs: list[dict[str, object]]
) -> list[dict[str, object]]:
    defaults = {"profile_id": "p", "job_id": "j", "submitted_at": at(100)}
    tables = {
        "raw_bids": table_of(contract.RAW_BIDS, [{"id": f"b{i}", **defaults, **bid} for i, bid in enumerate(bids)]),
        "raw_profiles": table_of(contract.RAW_PROFILES, [{"id": "p", "window": START, **profile} for profile in profiles]),
        "raw_jobs": table_of(contract.RAW_JOBS, [{"id": "j", "window": START, **job} for job in jobs]),
    }
    found: pa.Table = FAMILY.compute(tables, SPAN, None)
    assert found.column_names == ["bid_id", "submitted_at", *(feature.name for feature in FAMILY.features)]
    rows: list[dict[str, object]] = found.to_pylist()
    return rows


def test_skills_are_compared_as_sets_whatever_their_spelling() -> None:
    [row] = features([{}], [{"skills": ["Python ", "SQL", "sql", ""]}], [{"required_skills": ["python", "Go"]}])
    assert row["profile_skills"] == ["python", "sql"]
    assert (row["skill_overlap_count"], row["skill_overlap_share"]) == (1, 0.5)


def test_a_job_that_requires_nothing_has_no_share() -> None:
    [row] = features([{}], [{"skills": ["sql"]}], [{"required_skills": []}])
    assert (row["job_skill_count"], row["skill_overlap_count"], row["skill_overlap_share"]) == (0, 0, None)


def test_unknown_skills_are_missing_not_none() -> None:
    [row] = features([{}], [{"skills": None}], [{"required_skills": ["go"]}])
    assert (row["profile_skill_count"], row["skill_overlap_count"]) == (None, None)


def test_an_unknown_profile_or_job_leaves_missing_values() -> None:
    first, second = features([{"profile_id": "?"}, {"job_id": "?"}], [{"profile_type": "agency"}], [{"category": "web"}])
    assert (first["profile_type"], first["job_category"]) == (None, "web")
    assert (second["profile_type"], second["job_category"]) == ("agency", None)


def test_what_was_changed_after_the_bid_was_not_known_then() -> None:
    profile = {"profile_type": "agency", "skills": ["go"], "updated_at": at(100)}
    at_once, later = features([{}, {"submitted_at": at(101)}], [profile], [{"required_skills": ["go"]}])
    assert (at_once["profile_type"], at_once["skill_overlap_count"]) == (None, None)
    assert (later["profile_type"], later["skill_overlap_count"]) == ("agency", 1)


def test_each_bid_sees_the_profile_of_its_own_window() -> None:
    second_week = START + timedelta(weeks=1)
    bids = [{}, {"submitted_at": second_week + timedelta(hours=1)}, {"submitted_at": START + timedelta(weeks=2, hours=1)}]
    profiles = [{"experience_level": "entry"}, {"window": second_week, "experience_level": "expert"}]
    assert [row["experience_level"] for row in features(bids, profiles, [])] == ["entry", "expert", "expert"]


def test_ages_count_from_creation_and_posting_and_are_never_negative() -> None:
    [row] = features([{}], [{"created_at": at(4)}], [{"posted_at": at(101)}])
    assert (row["profile_age_days"], row["job_age_hours"]) == (4.0, None)


def test_without_bids_the_table_is_empty() -> None:
    assert features([], [], []) == []
