from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db import contract
from bid_assets.common.windows import TimeRange
from bid_assets.features.families.profile import FAMILY
from bid_assets.features.mapping import row_counts
from bid_assets_tests.features.tables import START, at, table_of

SPAN = TimeRange(START, START + timedelta(weeks=4))


Row = dict[str, Any]


def raw_tables(bids: list[Row], profiles: list[Row], jobs: list[Row]) -> dict[str, pa.Table]:
    defaults = {"profile_id": "p", "job_id": "j", "submitted_at": at(100)}
    return {
        "raw_bids": table_of(contract.RAW_BIDS, [{"id": f"b{i:02}", **defaults, **bid} for i, bid in enumerate(bids)]),
        "raw_profiles": table_of(contract.RAW_PROFILES, [{"id": "p", "window": START, **profile} for profile in profiles]),
        "raw_jobs": table_of(contract.RAW_JOBS, [{"id": "j", "window": START, **job} for job in jobs]),
    }


def features(bids: list[Row], profiles: list[Row], jobs: list[Row]) -> list[Row]:
    found: pa.Table = FAMILY.compute_table(raw_tables(bids, profiles, jobs), SPAN, None)
    assert found.schema == FAMILY.schema
    rows: list[Row] = found.to_pylist()
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


def test_a_change_after_the_bid_does_not_hide_how_old_the_profile_was() -> None:
    [row] = features([{}], [{"created_at": at(4), "updated_at": at(200)}], [])
    assert row["profile_age_days"] == 4.0


def test_the_bids_whose_profile_was_changed_since_are_counted() -> None:
    bids: list[Row] = [{}, {"submitted_at": at(101)}, {"profile_id": "?"}]
    tables = raw_tables(bids, [{"updated_at": at(100)}], [])
    assert row_counts(FAMILY, tables, SPAN) == {"bids_with_a_profile_changed_since": 1}
    assert row_counts(FAMILY, raw_tables([], [], []), SPAN) == {"bids_with_a_profile_changed_since": 0}


def test_each_bid_sees_the_profile_of_its_own_window() -> None:
    second_week = START + timedelta(weeks=1)
    bids: list[Row] = [
        {},
        {"submitted_at": second_week + timedelta(hours=1)},
        {"submitted_at": START + timedelta(weeks=2, hours=1)},
    ]
    profiles: list[Row] = [{"experience_level": "entry"}, {"window": second_week, "experience_level": "expert"}]
    assert [row["experience_level"] for row in features(bids, profiles, [])] == ["entry", "expert", "expert"]


def test_an_age_of_centuries_is_a_number_like_any_other() -> None:
    bid, job = datetime(2390, 1, 1, tzinfo=UTC), datetime(1700, 1, 1, tzinfo=UTC)
    span = TimeRange(bid, bid + timedelta(weeks=1))
    tables = raw_tables([{"submitted_at": bid}], [{"window": bid}], [{"window": bid, "posted_at": job}])
    [row] = FAMILY.compute_table(tables, span, None).to_pylist()
    assert row["job_age_hours"] == (bid - job) / timedelta(hours=1)


def test_ages_count_from_creation_and_posting_and_are_never_negative() -> None:
    [row] = features([{}], [{"created_at": at(4)}], [{"posted_at": at(101)}])
    assert (row["profile_age_days"], row["job_age_hours"]) == (4.0, None)


def test_without_bids_the_table_is_empty() -> None:
    assert features([], [], []) == []


SKILLS = st.none() | st.lists(st.sampled_from(["Go", " go", "SQL", "", "  ", "Straße", "日本語", None]), max_size=5)


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[Row], list[Row], list[Row]]:
    """A few profiles and jobs, each in some of four windows; every bid names one of its own window, or an unknown one."""
    starts = [START + timedelta(weeks=week) for week in range(4)]
    ids = [(name, start) for start in starts for name in "ab"]
    profiles = [{"id": name, "window": start, "skills": draw(SKILLS)} for name, start in draw(st.permutations(ids))]
    jobs = [{"id": name, "window": start, "required_skills": draw(SKILLS)} for name, start in draw(st.permutations(ids))]
    hours = st.integers(0, 4 * 7 * 24 - 1).map(at)
    one = st.fixed_dictionaries({"profile_id": st.sampled_from("ab?"), "job_id": st.sampled_from("ab?"), "submitted_at": hours})
    return draw(st.lists(one, max_size=8)), profiles, jobs


def skills_of(rows: list[Row], column: str, identifier: object, moment: datetime) -> list[str] | None:
    [row] = [row for row in rows if row["id"] == identifier and moment - timedelta(weeks=1) < row["window"] <= moment] or [{}]
    skills: list[str | None] | None = row.get(column)
    return None if skills is None else sorted({skill.strip().lower() for skill in skills if skill and skill.strip()})


@given(markets())
def test_overlap_is_that_of_the_sets_in_the_bids_own_window(market: tuple[list[Row], list[Row], list[Row]]) -> None:
    bids, profiles, jobs = market
    found = sorted(features(*market), key=lambda row: str(row["bid_id"]))
    for bid, row in zip(bids, found, strict=True):
        has = skills_of(profiles, "skills", bid["profile_id"], bid["submitted_at"])
        requires = skills_of(jobs, "required_skills", bid["job_id"], bid["submitted_at"])
        common = None if has is None or requires is None else len({*has} & {*requires})
        assert (row["profile_skills"], row["job_required_skills"], row["skill_overlap_count"]) == (has, requires, common)
        assert row["skill_overlap_share"] == (common / len(requires) if requires and common is not None else None)
