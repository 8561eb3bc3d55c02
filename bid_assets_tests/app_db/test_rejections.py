"""Rows that break the contract in meaning are set aside with a reason, each exactly once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.common.windows import TimeRange
from bid_assets_tests.app_db.database import (
    ALL,
    MONDAY,
    WEEK,
    bid,
    emptied_tables,
    execute,
    insert,
    outcome,
    read,
    rejections,
    snapshot_of,
    standard_tables,
)

HOUR = timedelta(hours=1)
NEXT_WEEK = MONDAY + WEEK + HOUR


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"submitted_at": None}, "has no submission time"),
        ({"submitted_at": "infinity"}, "submission time is infinity"),
        ({"submitted_at": "-infinity"}, "submission time is -infinity"),
        ({"submitted_at": "294000-01-01"}, "submission time is 294000-01-01T00:00:00+00:00"),
        ({"submitted_at": "4000-01-01 BC"}, "submission time is 4000-01-01T00:00:00+00:00 BC"),
        ({"submitted_at": "1969-12-31"}, "submission time is 1969-12-31T00:00:00+00:00"),
        ({"profile_id": None}, "has no profile"),
        ({"profile_id": "p9"}, "profile p9 is unknown"),
        ({"amount": -5.0}, "amount is -5"),
        ({"amount": float("nan")}, "amount is NaN"),
        ({"amount": float("inf")}, "amount is Infinity"),
        ({"amount": float("-inf")}, "amount is -Infinity"),
        ({"job_id": None}, "has no job"),
        ({"submitted_at": None, "profile_id": "p9", "amount": -1}, "has no submission time"),
        ({"profile_id": "p9", "amount": -1}, "profile p9 is unknown"),
    ],
)
def test_a_broken_bid_is_rejected_with_its_first_reason(app_db: str, broken: dict[str, Any], reason: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("good", NEXT_WEEK), bid("bad", NEXT_WEEK + HOUR) | broken])
    tables = read(app_db)
    assert tables["raw_bids"]["id"].to_pylist() == ["good"]
    assert tables["rejected_rows"].to_pylist() == [{"window": MONDAY + WEEK, "table": "bids", "id": "bad", "reason": reason}]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"bid_id": None}, "has no bid"),
        ({"bid_id": "b9"}, "bid b9 is unknown"),
        ({"outcome_timestamp": None}, "has no outcome time"),
        ({"outcome_timestamp": "infinity"}, "outcome time is infinity"),
        ({"is_success": None}, "has no result"),
        (
            {"outcome_timestamp": MONDAY + WEEK},
            "outcome at 2024-01-08T00:00:00+00:00 is before its bid at 2024-01-08T01:00:00+00:00",
        ),
        ({"bid_id": "bad"}, "its bid bad was rejected: amount is -5"),
    ],
)
def test_a_broken_outcome_is_rejected_with_its_first_reason(app_db: str, broken: dict[str, Any], reason: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("good", NEXT_WEEK), bid("bad", NEXT_WEEK - HOUR, amount=-5)])
    insert(app_db, "bid_outcomes", [outcome("o1", "good", NEXT_WEEK), outcome("o2", "good", NEXT_WEEK) | broken])
    tables = read(app_db)
    assert tables["raw_bid_outcomes"]["id"].to_pylist() == ["o1"]
    assert tables["rejected_rows"].to_pylist()[:1] == [
        {"window": MONDAY + WEEK, "table": "bid_outcomes", "id": "o2", "reason": reason}
    ]


def test_numeric_amounts_beyond_a_float_are_rejected_and_tiny_ones_read(app_db: str) -> None:
    standard_tables(app_db)
    execute(app_db, "ALTER TABLE bids ALTER amount TYPE numeric")
    insert(app_db, "bids", [bid("huge", MONDAY), bid("tiny", MONDAY), bid("nan", MONDAY), bid("fine", MONDAY)])
    execute(app_db, "UPDATE bids SET amount = 10::numeric ^ 400 WHERE id = 'huge'")
    execute(app_db, "UPDATE bids SET amount = ('0.' || repeat('0', 400) || '1')::numeric WHERE id = 'tiny'")
    execute(app_db, "UPDATE bids SET amount = 'NaN' WHERE id = 'nan'")
    execute(app_db, "UPDATE bids SET amount = 12.5 WHERE id = 'fine'")
    tables = read(app_db)
    assert tables["raw_bids"].select(["id", "amount"]).to_pylist() == [
        {"id": "fine", "amount": 12.5},
        {"id": "tiny", "amount": 0.0},
    ]
    assert tables["rejected_rows"]["id"].to_pylist() == ["huge", "nan"]


def test_a_row_without_time_belongs_to_the_window_of_the_newest_bid_whatever_is_asked(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY), bid("b2", NEXT_WEEK), bid("b3", None)])
    insert(app_db, "bid_outcomes", [outcome("o1", "b1", None), outcome("o2", "b1", MONDAY + 5 * WEEK)])
    expected = [
        (MONDAY + WEEK, "bid_outcomes", "o1", "has no outcome time"),
        (MONDAY + WEEK, "bids", "b3", "has no submission time"),
    ]
    assert rejections(app_db, ALL) == expected
    assert rejections(app_db, TimeRange(MONDAY + WEEK, MONDAY + 2 * WEEK)) == expected
    assert rejections(app_db, TimeRange(MONDAY, MONDAY + WEEK)) == []
    assert rejections(app_db, TimeRange(MONDAY + 5 * WEEK, MONDAY + 6 * WEEK)) == []


def test_an_outcome_of_an_unknown_bid_belongs_to_its_own_window(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b0", MONDAY), bid("b1", NEXT_WEEK)])
    insert(app_db, "bid_outcomes", [outcome("o1", "b9", MONDAY + HOUR)])
    assert rejections(app_db) == [(MONDAY, "bid_outcomes", "o1", "bid b9 is unknown")]


@pytest.mark.parametrize("odd", [datetime(2001, 5, 6, tzinfo=UTC), datetime(2031, 5, 6, tzinfo=UTC)])
def test_a_rejected_row_with_an_odd_date_widens_no_range_and_is_shown_where_the_newest_bid_is(
    app_db: str, odd: datetime
) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY), bid("b2", NEXT_WEEK), bid("odd", odd, profile_id="p9")])
    words = f"(at {odd.isoformat()}, outside the windows of all valid rows)"
    with snapshot_of(app_db) as snapshot:
        assert snapshot.extent() == TimeRange(MONDAY, NEXT_WEEK + timedelta(microseconds=1))
    everything = TimeRange(MONDAY - 2000 * WEEK, MONDAY + 2000 * WEEK)
    for span in (everything, TimeRange(MONDAY + WEEK, MONDAY + 2 * WEEK)):
        assert rejections(app_db, span) == [(MONDAY + WEEK, "bids", "odd", f"profile p9 is unknown {words}")]
    assert rejections(app_db, TimeRange(MONDAY, MONDAY + WEEK)) == []


def test_where_no_row_is_valid_all_are_shown_in_their_own_windows(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY, profile_id="p9"), bid("b2", NEXT_WEEK, profile_id="p9")])
    with snapshot_of(app_db) as snapshot:
        assert snapshot.extent() == TimeRange(MONDAY, NEXT_WEEK + timedelta(microseconds=1))
    assert [row[0] for row in rejections(app_db)] == [MONDAY, MONDAY + WEEK]


def test_a_date_that_no_timestamp_can_hold_is_rejected_and_stops_no_other_row(app_db: str) -> None:
    standard_tables(app_db)
    execute(app_db, "ALTER TABLE bids ALTER submitted_at TYPE date; ALTER TABLE bid_outcomes ALTER outcome_timestamp TYPE date")
    insert(app_db, "bids", [bid("b1", MONDAY), bid("b2", "5000000-01-01"), bid("b3", "4000-01-01 BC")])
    insert(app_db, "bid_outcomes", [outcome("o1", "b1", MONDAY), outcome("o2", "b1", "infinity")])
    tables = read(app_db)
    assert (tables["raw_bids"]["id"].to_pylist(), tables["raw_bid_outcomes"]["id"].to_pylist()) == (["b1"], ["o1"])
    assert [row[2:] for row in rejections(app_db)] == [
        ("o2", "outcome time is infinity"),
        ("b2", "submission time is 5000000-01-01"),
        ("b3", "submission time is 4000-01-01 BC"),
    ]


def test_an_outcome_at_the_very_time_of_its_bid_is_fine(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY)])
    insert(app_db, "bid_outcomes", [outcome("o1", "b1", MONDAY)])
    assert rejections(app_db) == []


def test_rejected_rows_are_the_same_whether_they_are_read_first_or_last(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid(f"b{i}", MONDAY + i * WEEK, amount=-1 if i == 2 else 1) for i in range(4)])
    insert(app_db, "bids", [bid("b9", None)])
    insert(app_db, "bid_outcomes", [outcome(f"o{i}", f"b{i}", MONDAY + 3 * WEEK) for i in range(4)])
    with snapshot_of(app_db, chunk_rows=2) as snapshot:
        first = snapshot.stream("rejected_rows", ALL).read_all()
    with snapshot_of(app_db, chunk_rows=2) as snapshot:
        for name in ("raw_bids", "raw_bid_outcomes"):
            snapshot.stream(name, ALL).read_all()
        last = snapshot.stream("rejected_rows", ALL).read_all()
    assert first["id"].to_pylist() == ["b2", "o2", "b9"]
    assert last.equals(first)


def test_an_outcome_without_id_is_rejected_and_those_beside_it_are_read(app_db: str) -> None:
    standard_tables(app_db)
    execute(app_db, "ALTER TABLE bid_outcomes DROP CONSTRAINT bid_outcomes_pkey, ALTER id DROP NOT NULL")
    insert(app_db, "bids", [bid("b1", MONDAY)])
    insert(app_db, "bid_outcomes", [outcome("o1", "b1", MONDAY), {**outcome("", "b1", MONDAY), "id": None}])
    assert read(app_db)["raw_bid_outcomes"]["id"].to_pylist() == ["o1"]
    assert rejections(app_db) == [(MONDAY, "bid_outcomes", None, "has no id")]


def test_outcomes_are_evaluated_the_same_before_and_after_it_is_seen_that_all_dated_bids_are_valid(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY + HOUR), bid("b2", None), bid("b3", "-infinity"), bid("b4", NEXT_WEEK)])
    late = MONDAY + 2 * WEEK
    insert(app_db, "bid_outcomes", [outcome(f"o{i}", f"b{i}", late) for i in range(1, 6)])
    insert(app_db, "bid_outcomes", [outcome("early", "b1", MONDAY), outcome("vague", "b1", late, is_success=None)])
    with snapshot_of(app_db) as snapshot:
        before = snapshot.stream("raw_bid_outcomes", ALL).read_all()
        snapshot.stream("raw_bids", ALL).read_all()
        assert snapshot.stream("raw_bid_outcomes", ALL).read_all() == before
    assert before["id"].to_pylist() == ["o1", "o4"]
    assert {row[2] for row in rejections(app_db) if row[1] == "bid_outcomes"} == {"o2", "o3", "o5", "early", "vague"}


def test_rejected_bids_name_no_jobs_and_profiles(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY, amount=-1)])
    tables = read(app_db)
    assert (tables["raw_jobs"].num_rows, tables["raw_profiles"].num_rows) == (0, 0)


moments = st.sampled_from([None, "infinity", MONDAY, MONDAY + HOUR, NEXT_WEEK, datetime(1900, 1, 1, tzinfo=UTC)])
bids = st.builds(
    lambda **values: values,
    profile_id=st.sampled_from(["p1", "p2", "p9", None]),
    job_id=st.sampled_from(["j1", "j9", None]),
    amount=st.sampled_from([None, 0.0, 5.0, -1.0, float("nan"), float("inf")]),
    submitted_at=moments,
)
outcomes = st.builds(
    lambda **values: values,
    bid_id=st.sampled_from(["b0", "b1", "b2", "b9", None]),
    is_success=st.sampled_from([True, False, None]),
    outcome_timestamp=moments,
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(bids, max_size=5), st.lists(outcomes, max_size=5))
def test_every_row_is_either_valid_or_rejected_once(app_db: str, some_bids: list[Any], some_outcomes: list[Any]) -> None:
    emptied_tables(app_db)
    insert(app_db, "profiles", [{"id": "p2"}])
    insert(app_db, "bids", [{"id": f"b{i}"} | row for i, row in enumerate(some_bids)])
    insert(app_db, "bid_outcomes", [{"id": f"o{i}"} | row for i, row in enumerate(some_outcomes)])
    everything = TimeRange(datetime(1970, 1, 5, tzinfo=UTC), ALL.end)
    tables = read(app_db, everything)
    rejected = tables["rejected_rows"].to_pylist()
    for table, letter, rows in (("bids", "b", some_bids), ("bid_outcomes", "o", some_outcomes)):
        ids = tables[f"raw_{table}"]["id"].to_pylist() + [row["id"] for row in rejected if row["table"] == table]
        assert sorted(ids) == [f"{letter}{i}" for i in range(len(rows))]
    known = set(tables["raw_bids"]["id"].to_pylist())
    assert set(tables["raw_bid_outcomes"]["bid_id"].to_pylist()) <= known
