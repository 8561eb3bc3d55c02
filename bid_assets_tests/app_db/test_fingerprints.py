from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg2
import pytest

from bid_assets.app_db.fingerprints import Fingerprints, changed_windows, window_fingerprints
from bid_assets.app_db.snapshot_reader import open_snapshot
from bid_assets.common.windows import Cadence, TimeRange
from bid_assets_tests.app_db.database import ALL, MONDAY, WEEK, bid, execute, insert, outcome, standard_tables

W1, W2, W3 = (Cadence.WEEKLY.key(MONDAY + week * WEEK) for week in range(3))
DAY = timedelta(days=1)


@pytest.fixture
def url(app_db: str) -> str:
    """Two profiles; a bid of p1 in the first window and one of p2 in the second, each decided in the third."""
    standard_tables(app_db)
    insert(app_db, "profiles", [{"id": "p2", "name": "Ada"}])
    insert(app_db, "jobs", [{"id": "j2", "title": "A site"}])
    insert(app_db, "bids", [bid("b1", MONDAY), bid("b2", MONDAY + WEEK, profile_id="p2", job_id="j2", amount=10)])
    insert(app_db, "bid_outcomes", [outcome("o1", "b1", MONDAY + 2 * WEEK), outcome("o2", "b2", MONDAY + 2 * WEEK)])
    return app_db


def fingerprints(url: str, span: TimeRange | None = None) -> Fingerprints:
    with psycopg2.connect(url, options="-c timezone=UTC") as connection, connection.cursor() as cursor:
        return window_fingerprints(cursor, Cadence.WEEKLY, span)


def after(url: str, change: str | Callable[[], None]) -> set[str]:
    """The windows whose fingerprints a change has changed."""
    before = fingerprints(url)
    execute(url, change) if isinstance(change, str) else change()
    return changed_windows(before, fingerprints(url))


def test_each_window_counts_its_rows_and_those_that_its_bids_name(url: str) -> None:
    counts = {key: {table: rows for table, (rows, _) in tables.items()} for key, tables in fingerprints(url).items()}
    named = {"bids": 1, "jobs": 1, "profiles": 1}
    assert counts == {W1: named, W2: named, W3: {"bid_outcomes": 2}}


@pytest.mark.parametrize(
    ("change", "windows"),
    [
        ("insert into bid_outcomes values ('o3', 'b1', false, '2024-01-09', null)", {W2}),
        ("update bid_outcomes set is_success = false where id = 'o1'", {W3}),
        ("update bid_outcomes set outcome_timestamp = '2024-01-09' where id = 'o2'", {W2, W3}),
        ("delete from bid_outcomes where id = 'o1'", {W3}),
        ("update bids set generated_bid_text = 'Dear client' where id = 'b1'", {W1}),
        ("update profiles set name = 'Ida' where id = 'p2'", {W2}),
        ("update jobs set title = 'A shop' where id = 'j2'", {W2}),
        ("update jobs set title = '' where id = 'j2'", {W2}),
        ("insert into profiles (id) values ('nobody names me')", set()),
        ("update bids set status = 'accepted'", set()),
        ("insert into bids (id, profile_id, job_id, submitted_at) values ('b3', 'p9', 'j1', '2001-05-06')", {W2}),
        ("insert into bid_outcomes values ('o3', 'b1', null, '2031-05-06'), ('o4', 'b1', true, '1999-01-01')", {W2}),
    ],
)
def test_a_change_changes_the_fingerprints_of_just_the_windows_concerned(url: str, change: str, windows: set[str]) -> None:
    assert after(url, change) == windows


@pytest.mark.parametrize(
    "change",
    ["update bids set amount = -1 where id = 'b2'", "delete from profiles where id = 'p2'", "delete from bids where id = 'b2'"],
)
def test_what_makes_a_bid_invalid_changes_the_window_of_its_outcome_too(url: str, change: str) -> None:
    assert after(url, change) == {W2, W3}


def test_rows_without_a_time_count_in_the_window_of_the_newest_bid(url: str) -> None:
    assert after(url, lambda: insert(url, "bids", [bid("b3", None)])) == {W2}
    assert after(url, lambda: insert(url, "bid_outcomes", [outcome("o3", "b1", "infinity")])) == {W2}


def test_rejected_rows_are_apart_from_those_that_features_are_made_of(url: str) -> None:
    before = fingerprints(url)
    insert(url, "bids", [bid("b3", MONDAY, profile_id="p9", job_id="j2"), bid("b4", "1999-01-01", amount=-1)])
    insert(url, "bid_outcomes", [outcome("o3", "b3", MONDAY + 2 * WEEK)])
    new = {
        (key, table)
        for key, tables in fingerprints(url).items()
        for table in tables
        if tables[table] != before.get(key, {}).get(table)
    }
    assert new == {(W1, "rejected_bids"), (W2, "rejected_bids"), (W3, "rejected_bid_outcomes")}


def test_ids_that_are_spelled_otherwise_are_seen_though_the_database_calls_them_equal(url: str) -> None:
    execute(url, "update jobs set id = '7' where id = 'j2'; delete from jobs where id = 'j1'; update bids set job_id = '7'")
    execute(url, "alter table jobs alter id type numeric using id::numeric")
    assert after(url, "update jobs set id = 7.00") == {W1, W2}


def test_neither_physical_order_nor_leaving_and_coming_back_matter(url: str) -> None:
    def shuffle() -> None:
        execute(url, "create table aside as select * from bids; delete from bids")
        execute(url, "insert into bids select * from aside order by id desc")

    assert after(url, shuffle) == set()


def test_rows_that_differ_in_their_id_alone_do_not_cancel_out(url: str) -> None:
    alike = [outcome(f"alike{number}", "b1", MONDAY + 2 * WEEK + DAY) for number in range(2)]
    assert after(url, lambda: insert(url, "bid_outcomes", alike)) == {W3}


def test_a_span_gives_the_windows_that_lie_in_it(url: str) -> None:
    everything = fingerprints(url)
    part = fingerprints(url, TimeRange(MONDAY + WEEK, MONDAY + 2 * WEEK))
    assert part == {W2: everything[W2]}


def test_the_reader_s_snapshot_gives_the_same_over_its_own_connection(url: str) -> None:
    with open_snapshot(url, cadence=Cadence.WEEKLY) as snapshot:
        assert snapshot.fingerprints(ALL) == fingerprints(url)


def test_columns_that_are_not_there_are_no_obstacle(url: str) -> None:
    execute(url, "alter table bids drop column amount; alter table jobs drop column title")
    assert set(fingerprints(url)) == {W1, W2, W3}


def test_a_table_without_rows_is_the_same_as_none() -> None:
    assert changed_windows({}, {}) == set()
    assert changed_windows({W1: {"bids": [1, "5"]}}, {}) == {W1}
    assert changed_windows({W1: {"bids": (1, "5")}}, {W1: {"bids": [1, "5"]}}) == set()
