from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bid_assets.app_db.connections import engine, snapshot
from bid_assets.app_db.contract import ContractError
from bid_assets.app_db.new_rows import HighWaterMark, missing_indexes, poll_new_rows
from bid_assets.app_db.schema import create_tables
from bid_assets.common.windows import Cadence

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
WINDOW = "2026-11-16"
OVERLAP = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def database(app_db: str) -> Iterator[Any]:
    made = engine(app_db)
    create_tables(made)
    made.dispose()
    connection = psycopg2.connect(app_db)
    connection.autocommit = True
    ask(connection, "insert into profiles (id) values ('p')")
    yield connection
    connection.close()


def ask(connection: Any, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def outcome(name: str, at: datetime) -> str:
    return (
        f"insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) values ('{name}', 'b', true, '{at.isoformat()}')"
    )


def poll(connection: Any, mark: HighWaterMark | None, now: datetime = NOW) -> tuple[dict[str, set[str]], HighWaterMark]:
    with snapshot(connection.dsn) as database_cursor:
        new_rows = poll_new_rows(database_cursor, mark, Cadence.WEEKLY, OVERLAP, now)
    return new_rows.changed_windows, HighWaterMark.from_json(new_rows.high_water_mark.to_json())


def advice(connection: Any) -> list[str]:
    with snapshot(connection.dsn) as cursor:
        return missing_indexes(cursor)


def test_the_first_poll_only_gives_a_high_water_mark_and_what_was_there_is_not_new(database: Any) -> None:
    ask(database, outcome("o1", NOW))
    changed, mark = poll(database, None)
    assert changed == {}
    assert poll(database, mark) == ({}, mark)


def test_the_first_rows_of_an_empty_table_are_new_however_old_they_are(database: Any) -> None:
    _, mark = poll(database, None)
    ask(database, outcome("o1", NOW - timedelta(days=700)))
    assert poll(database, mark)[0] == {"bid_outcomes": {"2024-12-16"}}


def test_a_new_row_is_seen_once_in_the_window_of_its_time(database: Any) -> None:
    _, mark = poll(database, None)
    ask(database, outcome("o1", NOW))
    changed, mark = poll(database, mark)
    assert changed == {"bid_outcomes": {WINDOW}}
    assert poll(database, mark)[0] == {}


def test_new_bids_are_followed_too(database: Any) -> None:
    _, mark = poll(database, None)
    ask(database, f"insert into bids (id, profile_id, job_id, submitted_at) values ('b', 'p', 'j', '{NOW.isoformat()}')")
    assert poll(database, mark)[0] == {"bids": {WINDOW}}


def test_a_row_with_the_time_of_one_that_was_seen_is_new(database: Any) -> None:
    ask(database, outcome("o1", NOW))
    _, mark = poll(database, None)
    ask(database, outcome("o2", NOW))
    assert poll(database, mark)[0] == {"bid_outcomes": {WINDOW}}


def test_a_row_committed_after_a_later_one_was_seen_is_new(database: Any, app_db: str) -> None:
    _, mark = poll(database, None)
    slow = psycopg2.connect(app_db)
    ask(slow, outcome("slow", NOW - 30 * MINUTE))
    ask(database, outcome("quick", NOW))
    changed, mark = poll(database, mark)
    assert changed == {"bid_outcomes": {WINDOW}}
    slow.commit()
    slow.close()
    assert poll(database, mark)[0] == {"bid_outcomes": {WINDOW}}


def test_rows_that_landed_while_nobody_looked_are_seen_in_all_their_windows(database: Any) -> None:
    ask(database, outcome("o0", NOW - timedelta(weeks=4)))
    _, mark = poll(database, None)
    for week in range(4):
        ask(database, outcome(f"o{week + 1}", NOW - timedelta(weeks=week)))
    assert poll(database, mark)[0] == {"bid_outcomes": {"2026-10-26", "2026-11-02", "2026-11-09", WINDOW}}


def test_an_edit_and_a_deletion_within_the_overlap_are_seen(database: Any) -> None:
    ask(database, outcome("o1", NOW))
    ask(database, outcome("o2", NOW - MINUTE))
    _, mark = poll(database, None)
    ask(database, "update bid_outcomes set is_success = false where id = 'o1'")
    changed, mark = poll(database, mark)
    assert changed == {"bid_outcomes": {WINDOW}}
    ask(database, "delete from bid_outcomes where id = 'o2'")
    assert poll(database, mark)[0] == {"bid_outcomes": {WINDOW}}


def test_a_row_from_the_future_does_not_make_it_blind_for_the_present(database: Any) -> None:
    ask(database, outcome("o1", NOW + timedelta(days=9999)))
    _, mark = poll(database, None)
    ask(database, outcome("o2", NOW))
    assert poll(database, mark)[0] == {"bid_outcomes": {WINDOW}}


def test_rows_without_a_time_are_no_obstacle(database: Any) -> None:
    _, mark = poll(database, None)
    ask(
        database,
        "insert into bid_outcomes (id) values ('timeless'); insert into bids (id, submitted_at) values ('b', 'infinity')",
    )
    assert poll(database, mark)[0] == {}


def test_naive_times_are_utc(database: Any) -> None:
    ask(database, "alter table bid_outcomes alter outcome_timestamp type timestamp using outcome_timestamp at time zone 'UTC'")
    _, mark = poll(database, None)
    ask(
        database,
        "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) values ('o', 'b', true, '2026-11-16 00:30')",
    )
    changed, mark = poll(database, mark)
    assert changed == {"bid_outcomes": {WINDOW}}
    assert mark.since["bid_outcomes"] == "2026-11-15T23:30:00+00:00"


def test_a_missing_table_is_named(database: Any) -> None:
    ask(database, "drop table bids")
    with pytest.raises(ContractError, match="table bids is missing"):
        poll(database, None)


def test_a_text_that_is_no_high_water_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="no high-water mark"):
        HighWaterMark.from_json('{"something": 1}')


def test_missing_indexes_come_as_statements_that_create_them(database: Any) -> None:
    assert advice(database) == []
    ask(database, "drop index bid_outcomes_outcome_timestamp")
    [statement] = advice(database)
    ask(database, statement)
    assert advice(database) == []


def test_the_advice_for_partitioned_tables_and_materialized_views_can_be_followed_and_for_views_there_is_none(
    database: Any,
) -> None:
    ask(database, "alter table bids rename to bids_of_all; drop index bids_submitted_at; drop table bid_outcomes")
    ask(
        database,
        "create view bids as select * from bids_of_all;"
        "create table bid_outcomes (id text, bid_id text, is_success boolean, outcome_timestamp timestamptz)"
        " partition by range (outcome_timestamp); create table bid_outcomes_rest partition of bid_outcomes default",
    )
    [statement] = advice(database)
    assert statement == "CREATE INDEX ON bid_outcomes (outcome_timestamp)"
    ask(database, statement)
    assert advice(database) == []
    ask(database, "drop view bids; create materialized view bids as select * from bids_of_all")
    [statement] = advice(database)
    ask(database, statement)
    assert advice(database) == []


steps = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "delete", "edit", "poll"]), st.integers(0, 59), st.integers(0, 9)),
    max_size=25,
)


@given(steps)
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_has_changed_within_the_overlap_is_seen_by_the_next_poll_and_nothing_else(
    database: Any, history: list[tuple[str, int, int]]
) -> None:
    ask(database, "truncate bid_outcomes")
    ask(database, outcome("anchor", NOW))
    _, mark = poll(database, None)
    rows: dict[int, int] = {}
    known = dict(rows)
    for number, (what, minutes, which) in enumerate([*history, ("poll", 0, 0)]):
        if what == "insert" and which not in rows:
            ask(database, outcome(f"o{which}", NOW - minutes * MINUTE))
            rows[which] = -1
        elif what == "edit" and which in rows:
            ask(database, f"update bid_outcomes set bid_id = 'b{number}' where id = 'o{which}'")
            rows[which] = number
        elif what == "delete" and which in rows:
            ask(database, f"delete from bid_outcomes where id = 'o{which}'")
            del rows[which]
        elif what == "poll":
            changed, mark = poll(database, mark)
            assert changed == ({"bid_outcomes": {WINDOW}} if rows != known else {})
            known = dict(rows)
