"""The reader gives what the contract promises, however the application's tables look."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.app_db.connections import DatabaseUnreachableError
from bid_assets.app_db.contract import STREAMS, ContractError
from bid_assets.app_db.snapshot_pool import open_snapshot_pool
from bid_assets.common.windows import Cadence, TimeRange
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
    snapshot_of,
    standard_tables,
)

HOUR = timedelta(hours=1)
UUID = "6f1c2a9e-0000-4000-8000-00000000000"


def busy_market(url: str, bids: int = 60, seed: int = 7) -> str:
    """Some weeks of bids with ties in time, several jobs and profiles, some of them broken; in no order."""
    standard_tables(url)
    chance = random.Random(seed)
    insert(url, "profiles", [{"id": f"p{i}", "skills": '["a"]'} for i in range(2, 6)])
    insert(url, "jobs", [{"id": f"j{i}", "title": f"Job {i}"} for i in range(2, 6)])
    times = [MONDAY + chance.randrange(5 * 7 * 4) * 6 * HOUR for _ in range(bids)]
    insert(
        url,
        "bids",
        [
            bid(
                f"b{i}",
                None if i % 17 == 0 else times[i],
                profile_id=f"p{1 + i % 6}",
                job_id=f"j{1 + i % 5}",
                amount=-1 if i % 13 == 0 else i,
            )
            for i in range(bids)
        ],
    )
    insert(
        url,
        "bid_outcomes",
        [outcome(f"o{i}", f"b{i}", times[i] + chance.randrange(-1, 9) * 12 * HOUR) for i in range(0, bids, 2)],
    )
    return url


def test_streams_have_exactly_the_schemas_of_the_contract(app_db: str) -> None:
    tables = read(busy_market(app_db))
    assert {name: table.schema for name, table in tables.items()} == STREAMS
    for table in tables.values():
        table.validate(full=True)
        assert table.num_rows > 0


def test_all_streams_show_one_moment_even_if_rows_arrive_in_between(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY)])
    with snapshot_of(app_db, chunk_rows=2) as snapshot:
        mark = snapshot.watermark()
        assert snapshot.stream("raw_bids", ALL).read_all()["id"].to_pylist() == ["b1"]
        insert(app_db, "jobs", [{"id": "j2"}])
        insert(app_db, "bids", [bid("b2", MONDAY + WEEK, job_id="j2"), bid("b3", None)])
        insert(app_db, "bid_outcomes", [outcome("o1", "b1", MONDAY + HOUR)])
        for lane in range(4):  # whichever connection answers
            tables = snapshot.read(TimeRange(ALL.start, ALL.end + lane * WEEK))
            assert tables["raw_bids"]["id"].to_pylist() == ["b1"]
            assert tables["raw_jobs"]["id"].to_pylist() == ["j1"]
            assert tables["raw_bid_outcomes"].num_rows == tables["rejected_rows"].num_rows == 0
        assert snapshot.watermark() == mark
    assert read(app_db)["raw_bids"]["id"].to_pylist() == ["b1", "b2"]


def test_rows_come_by_window_time_and_id(app_db: str) -> None:
    tables = read(busy_market(app_db), chunk_rows=8)
    bids = tables["raw_bids"].to_pylist()
    assert [(row["submitted_at"], row["id"]) for row in bids] == sorted((row["submitted_at"], row["id"]) for row in bids)
    jobs = tables["raw_jobs"].to_pylist()
    named = {(Cadence.WEEKLY.floor(row["submitted_at"]), row["job_id"]) for row in bids}
    assert [(row["window"], row["id"]) for row in jobs] == sorted(named)
    profiles = tables["raw_profiles"].to_pylist()
    named = {(Cadence.WEEKLY.floor(row["submitted_at"]), row["profile_id"]) for row in bids}
    assert [(row["window"], row["id"]) for row in profiles] == sorted(named)
    assert all(row["skills"] == ["a"] for row in profiles if row["id"] != "p1")


@pytest.mark.parametrize("cadence", Cadence)
@pytest.mark.parametrize("chunk_rows", [1, 7, 250_000])
def test_a_window_is_the_same_alone_and_in_a_range(app_db: str, cadence: Cadence, chunk_rows: int) -> None:
    busy_market(app_db)
    span = TimeRange(MONDAY, MONDAY + 6 * WEEK)
    with snapshot_of(app_db, cadence, chunk_rows) as snapshot:
        whole = snapshot.read(span)
        alone = [snapshot.read(cadence.window(key)) for key in cadence.keys(span)]
    for name, table in whole.items():
        assert table.equals(pa.concat_tables([window[name] for window in alone])), name


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(12)), st.integers(1, 20))
def test_the_physical_order_of_rows_does_not_matter(app_db: str, order: list[int], chunk_rows: int) -> None:
    emptied_tables(app_db)
    insert(app_db, "bids", [bid(f"b{i}", MONDAY + i % 4 * HOUR if i % 5 else None, amount=i) for i in order])
    insert(app_db, "bid_outcomes", [outcome(f"o{i}", f"b{i}", MONDAY + i % 3 * WEEK) for i in reversed(order)])
    tables = read(app_db, chunk_rows=chunk_rows)
    times = [(i % 4, f"b{i}") for i in range(12) if i % 5]
    assert tables["raw_bids"]["id"].to_pylist() == [name for _, name in sorted(times)]
    assert tables["rejected_rows"].num_rows == 3 + 3 + sum(i % 4 > 0 and i % 3 == 0 for i in range(12) if i % 5)


def test_ids_are_ordered_by_their_bytes_not_by_a_collation(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid(name, MONDAY) for name in ("b", "B", "a", "ä", "_", "10", "9")])
    assert read(app_db)["raw_bids"]["id"].to_pylist() == ["10", "9", "B", "_", "a", "b", "ä"]


def test_jobs_that_do_not_exist_are_absent(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY), bid("b2", MONDAY, job_id="j9")])
    tables = read(app_db)
    assert tables["raw_bids"]["job_id"].to_pylist() == ["j1", "j9"]
    assert tables["raw_jobs"]["id"].to_pylist() == ["j1"]


def test_jobs_and_profiles_are_the_same_whether_the_bids_were_streamed_before_in_part_or_not_at_all(app_db: str) -> None:
    busy_market(app_db)
    whole = TimeRange(MONDAY, MONDAY + 6 * WEEK)
    inner = TimeRange(MONDAY + 30 * HOUR, MONDAY + 2 * WEEK + 30 * HOUR)  # of which no end is an end of a window
    names = ("raw_jobs", "raw_profiles")
    with snapshot_of(app_db, chunk_rows=8) as snapshot:
        fresh = [snapshot.stream(name, span).read_all() for span in (inner, whole) for name in names]
    with snapshot_of(app_db, chunk_rows=8) as snapshot:
        snapshot.stream("raw_bids", whole).read_next_batch()
        begun = [snapshot.stream(name, span).read_all() for span in (inner, whole) for name in names]
        snapshot.stream("raw_bids", whole).read_all()
        known = [snapshot.stream(name, span).read_all() for span in (inner, whole) for name in names]
    assert 0 < fresh[0].num_rows < fresh[2].num_rows
    assert fresh == begun == known


def test_an_empty_range_has_no_rows(app_db: str) -> None:
    busy_market(app_db)
    assert all(table.num_rows == 0 for table in read(app_db, TimeRange(MONDAY, MONDAY)).values())


def test_ids_may_hold_any_character(app_db: str) -> None:
    standard_tables(app_db)
    odd = ["it's", 'a "b"', "{a,b}", "back\\slash", "NULL", "", " ", "ünï\n", "%s $1"]
    insert(app_db, "jobs", [{"id": name} for name in odd])
    insert(app_db, "bids", [bid(f"b{i}", MONDAY, job_id=name) for i, name in enumerate(odd)])
    assert read(app_db)["raw_jobs"]["id"].to_pylist() == sorted(odd)


def test_jobs_are_found_by_the_text_of_their_ids_where_types_differ(app_db: str) -> None:
    standard_tables(app_db)
    execute(app_db, f"TRUNCATE jobs; ALTER TABLE jobs ALTER id TYPE uuid USING '{UUID}1'")
    insert(app_db, "jobs", [{"id": f"{UUID}1"}])
    insert(app_db, "bids", [bid("b1", MONDAY, job_id=f"{UUID}1"), bid("b2", MONDAY, job_id="not a UUID")])
    assert read(app_db)["raw_jobs"]["id"].to_pylist() == [f"{UUID}1"]


def test_the_extent_reaches_from_the_first_row_to_just_after_the_last(app_db: str) -> None:
    standard_tables(app_db)
    with snapshot_of(app_db) as snapshot:
        assert snapshot.extent() is None
        assert snapshot.watermark() == {
            "profiles": 1,
            "jobs": 1,
            "bids": 0,
            "bid_outcomes": 0,
            "newest_submitted_at": None,
            "newest_outcome_timestamp": None,
        }
        assert all(table.num_rows == 0 for table in snapshot.read(ALL).values())
    insert(app_db, "bids", [bid("b1", MONDAY + HOUR), bid("b2", "infinity"), bid("b3", MONDAY + WEEK, amount=-1)])
    insert(app_db, "bid_outcomes", [outcome("o1", "b1", MONDAY + 3 * WEEK)])
    with snapshot_of(app_db) as snapshot:
        assert snapshot.extent() == TimeRange(MONDAY + HOUR, MONDAY + 3 * WEEK + timedelta(microseconds=1))
        mark = snapshot.watermark()
    assert (mark["bids"], mark["bid_outcomes"]) == (3, 1)
    assert mark["newest_submitted_at"] == (MONDAY + WEEK).isoformat()


def test_a_database_of_bare_required_columns_is_read(app_db: str) -> None:
    execute(
        app_db,
        "CREATE TABLE profiles (id text); CREATE TABLE jobs (id text);"
        "CREATE TABLE bids (id text, profile_id text, job_id text, submitted_at timestamptz);"
        "CREATE TABLE bid_outcomes (id text, bid_id text, is_success boolean, outcome_timestamp timestamptz)",
    )
    insert(app_db, "profiles", [{"id": "p1"}])
    insert(app_db, "jobs", [{"id": "j1"}])
    insert(app_db, "bids", [bid("b1", MONDAY), bid(None, MONDAY)])
    insert(app_db, "bid_outcomes", [outcome("o1", "b1", MONDAY + HOUR)])
    tables = read(app_db)
    assert {name: table.num_rows for name, table in tables.items()} == dict.fromkeys(STREAMS, 1)
    for name in ("amount", "generated_bid_text", "bid_settings_snapshot"):
        assert tables["raw_bids"][name].to_pylist() == [None]
    assert tables["raw_profiles"]["skills"].to_pylist() == tables["raw_jobs"]["posted_at"].to_pylist() == [None]
    assert tables["rejected_rows"]["reason"].to_pylist() == ["has no id"]


def test_ids_of_any_type_amounts_of_any_type_and_naive_times_are_read(app_db: str) -> None:
    execute(
        app_db,
        "CREATE DOMAIN price AS numeric(10, 2); CREATE TYPE level AS ENUM ('entry', 'expert');"
        "CREATE TABLE profiles (id integer PRIMARY KEY, skills text[], experience_level level, created_at date);"
        "CREATE TABLE jobs (id uuid PRIMARY KEY, required_skills jsonb, posted_at timestamp);"
        "CREATE TABLE bids (id uuid PRIMARY KEY, profile_id text, job_id uuid, amount price,"
        " bid_settings_snapshot jsonb, external_signals_snapshot json, submitted_at timestamp);"
        "CREATE TABLE bid_outcomes (id bigint PRIMARY KEY, bid_id text, is_success smallint, outcome_timestamp timestamptz)",
    )
    execute(
        app_db,
        f"""INSERT INTO profiles VALUES (1, ARRAY['a', NULL, 'b "c"'], 'expert', '2024-01-01');
        INSERT INTO jobs VALUES ('{UUID}1', '["x", 1, "y"]', 'infinity');
        INSERT INTO bids VALUES
            ('{UUID}2', '1', '{UUID}1', 12.50, '{{"budget": 5}}', '"{{\\"a\\": 1}}"', '2024-01-01T10:00:00.123456'),
            ('{UUID}3', '2', '{UUID}1', 1, NULL, NULL, '2024-01-01');
        INSERT INTO bid_outcomes VALUES (1, '{UUID}2', 1, '2024-01-01T12:00:00+02'), (2, '{UUID}2', 7, '2024-01-02')""",
    )
    tables = read(app_db)
    at = datetime(2024, 1, 1, 10, 0, 0, 123456, tzinfo=UTC)
    (row,) = tables["raw_bids"].to_pylist()
    assert (row["id"], row["profile_id"], row["job_id"]) == (f"{UUID}2", "1", f"{UUID}1")
    assert (row["amount"], row["submitted_at"]) == (12.5, at)
    assert (row["bid_settings_snapshot"], row["external_signals_snapshot"]) == ('{"budget": 5}', '{"a": 1}')
    (profile,) = tables["raw_profiles"].to_pylist()
    assert (profile["id"], profile["skills"], profile["experience_level"]) == ("1", ["a", 'b "c"'], "expert")
    assert (profile["window"], profile["created_at"]) == (MONDAY, MONDAY)
    (job,) = tables["raw_jobs"].to_pylist()
    assert (job["required_skills"], job["posted_at"]) == (["x", "y"], None)
    assert tables["raw_bid_outcomes"].num_rows == 0
    assert [(row["id"], row["reason"]) for row in tables["rejected_rows"].to_pylist()] == [
        ("1", "outcome at 2024-01-01T10:00:00+00:00 is before its bid at 2024-01-01T10:00:00.123456+00:00"),
        ("2", "result is 7"),
        (f"{UUID}3", "profile 2 is unknown"),
    ]


@pytest.mark.parametrize("sql_type", ["timestamptz", "timestamp", "date"])
def test_times_of_jobs_and_profiles_that_no_window_can_hold_are_missing_and_counted_by_window_and_reason(
    app_db: str, sql_type: str
) -> None:
    standard_tables(app_db)
    for table, column in (("jobs", "posted_at"), ("profiles", "created_at"), ("profiles", "updated_at")):
        execute(app_db, f"ALTER TABLE {table} ALTER {column} TYPE {sql_type} USING {column}::{sql_type}")
    times = [None, "2024-01-01", "infinity", "-infinity", "0044-03-15 BC", "1969-12-31", "12345-01-01", "250000-01-01"]
    insert(app_db, "jobs", [{"id": f"j{at}", "posted_at": at} for at in times])
    insert(app_db, "profiles", [{"id": "p2", "created_at": "infinity", "updated_at": "2024-01-02"}])
    insert(app_db, "bids", [bid(f"b{at}", MONDAY, profile_id="p2", job_id=f"j{at}") for at in times])
    insert(app_db, "bids", [bid("later", MONDAY + WEEK, job_id="j1969-12-31")])
    first, second = (int((MONDAY + weeks * WEEK).timestamp()) * 1_000_000 for weeks in (0, 1))
    with snapshot_of(app_db) as snapshot:
        jobs, profiles = (snapshot.stream(name, ALL).read_all() for name in ("raw_jobs", "raw_profiles"))
        of_jobs, of_profiles = snapshot.readability("raw_jobs"), snapshot.readability("raw_profiles")
    early, beyond = "a time before 1970-01-05", "a time beyond 9999-12-27"
    assert of_jobs.of_window(first)["posted_at"] == {"": 1, "an infinite time": 2, early: 2, beyond: 2}
    assert of_jobs.of_window(second)["posted_at"] == {early: 1}
    assert of_profiles.of_window(first) == {"skills": {}, "created_at": {"an infinite time": 1}, "updated_at": {"": 1}}
    assert jobs["posted_at"].drop_null().to_pylist() == [MONDAY]
    assert profiles.select(["created_at", "updated_at"]).slice(0, 1).to_pylist() == [
        {"created_at": None, "updated_at": MONDAY + timedelta(days=1)}
    ]


def test_domains_over_domains_and_over_arrays_are_read_as_what_they_rest_on(app_db: str) -> None:
    standard_tables(app_db)
    execute(
        app_db,
        "CREATE DOMAIN cash AS numeric(12, 2); CREATE DOMAIN bid_cash AS cash CHECK (value >= 0);"
        "CREATE DOMAIN skill AS text; CREATE DOMAIN skill_list AS text[]; CREATE DOMAIN skills AS skill_list;"
        "CREATE DOMAIN moment AS timestamptz; CREATE DOMAIN bid_moment AS moment; CREATE DOMAIN answer AS boolean;"
        "ALTER TABLE bids ALTER amount TYPE bid_cash, ALTER submitted_at TYPE bid_moment;"
        "ALTER TABLE bid_outcomes ALTER is_success TYPE answer;"
        "ALTER TABLE profiles ALTER skills TYPE skills USING ARRAY['sql', 'go'];"
        "ALTER TABLE jobs ALTER required_skills TYPE skill[] USING ARRAY['css']",
    )
    insert(app_db, "bids", [bid("b1", MONDAY, amount=12.5)])
    insert(app_db, "bid_outcomes", [outcome("o1", "b1", MONDAY)])
    tables = read(app_db)
    assert tables["raw_bids"].select(["amount", "submitted_at"]).to_pylist() == [{"amount": 12.5, "submitted_at": MONDAY}]
    assert (tables["raw_profiles"]["skills"].to_pylist(), tables["raw_jobs"]["required_skills"].to_pylist()) == (
        [["sql", "go"]],
        [["css"]],
    )
    assert tables["raw_bid_outcomes"]["is_success"].to_pylist() == [True]
    with snapshot_of(app_db) as snapshot:
        assert {table: rows for table, (rows, _) in snapshot.fingerprints(ALL)["2024-01-01"].items()} == dict.fromkeys(
            ("bids", "jobs", "profiles", "bid_outcomes"), 1
        )


def test_partitioned_tables_are_read_like_any_others(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY), bid("b2", MONDAY + WEEK, profile_id="p9")])
    execute(
        app_db,
        "ALTER TABLE bids RENAME TO kept; CREATE TABLE bids (LIKE kept) PARTITION BY RANGE (submitted_at);"
        "CREATE TABLE bids_early PARTITION OF bids FOR VALUES FROM (minvalue) TO ('2024-01-08');"
        "CREATE TABLE bids_late PARTITION OF bids FOR VALUES FROM ('2024-01-08') TO (maxvalue);"
        "INSERT INTO bids SELECT * FROM kept",
    )
    tables = read(app_db)
    assert (tables["raw_bids"]["id"].to_pylist(), tables["rejected_rows"]["id"].to_pylist()) == (["b1"], ["b2"])


def test_naive_times_are_utc_whatever_the_server_thinks(app_db: str) -> None:
    standard_tables(app_db)
    execute(app_db, "ALTER TABLE bids ALTER submitted_at TYPE timestamp")
    execute(app_db, f"ALTER DATABASE \"{app_db.split('/')[3].split('?')[0]}\" SET timezone = 'Asia/Tokyo'")
    insert(app_db, "bids", [bid("b1", "2024-01-07T23:59:59"), bid("b2", "2024-01-08T00:00:00")])
    first = read(app_db, TimeRange(MONDAY, MONDAY + WEEK))
    assert first["raw_bids"]["id"].to_pylist() == ["b1"]
    assert first["raw_jobs"]["window"].to_pylist() == [MONDAY]


def test_views_will_do_and_so_does_another_schema_on_the_search_path(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY)])
    execute(
        app_db,
        "CREATE SCHEMA adapter; ALTER TABLE bids RENAME COLUMN submitted_at TO sent;"
        "CREATE VIEW adapter.bids AS SELECT *, sent AS submitted_at FROM public.bids",
    )
    with pytest.raises(ContractError, match=r"column bids\.submitted_at is missing"):
        read(app_db)
    assert read(f"{app_db}&options=-csearch_path%3Dadapter,public")["raw_bids"]["id"].to_pylist() == ["b1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP TABLE jobs", "table jobs is missing"),
        ("ALTER TABLE bids DROP profile_id", r"column bids\.profile_id is missing"),
        ("ALTER TABLE bid_outcomes DROP is_success", r"column bid_outcomes\.is_success is missing"),
        ("ALTER TABLE bids ALTER submitted_at TYPE text", r"column bids\.submitted_at is of type text"),
        ("ALTER TABLE bids ALTER amount TYPE text", r"column bids\.amount is of type text"),
        ("ALTER TABLE jobs ALTER posted_at TYPE text", r"column jobs\.posted_at is of type text"),
        ("ALTER TABLE bid_outcomes ALTER is_success TYPE text", r"column bid_outcomes\.is_success is of type text"),
    ],
)
def test_what_the_contract_lacks_is_named_in_one_error(app_db: str, change: str, message: str) -> None:
    standard_tables(app_db)
    execute(app_db, change)
    with pytest.raises(ContractError, match=message):
        read(app_db)


def test_ids_that_repeat_are_an_error_and_multiply_nothing(app_db: str) -> None:
    standard_tables(app_db)
    execute(app_db, "ALTER TABLE profiles DROP CONSTRAINT profiles_pkey")
    insert(app_db, "profiles", [{"id": "p1"}])
    with pytest.raises(ContractError, match=r"profiles\.id must be unique, but 'p1' occurs 2 times"):
        read(app_db)


def test_nothing_can_be_written_through_a_snapshot(app_db: str) -> None:
    execute(app_db, "CREATE SEQUENCE counter")
    with open_snapshot_pool(app_db) as pool, pytest.raises(Exception, match="read-only transaction"):
        pool.fetch("SELECT nextval('counter')")


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    with (
        pytest.raises(DatabaseUnreachableError, match="cannot connect to the application's database") as caught,
        snapshot_of("postgresql://someone:secret@127.0.0.1:1/nowhere"),
    ):
        pass
    assert "secret" not in str(caught.value)


def test_a_reader_that_stops_early_leaves_no_connection_behind(app_db: str) -> None:
    busy_market(app_db)
    with snapshot_of(app_db, chunk_rows=2) as snapshot:
        reader = snapshot.stream("raw_bids", ALL)
        reader.read_next_batch()
    execute(app_db, "DROP TABLE bids")


def test_streams_may_be_read_side_by_side(app_db: str) -> None:
    busy_market(app_db)
    with snapshot_of(app_db, chunk_rows=4) as snapshot:
        together = [
            (one.num_rows, two.num_rows)
            for one, two in zip(snapshot.stream("raw_bids", ALL), snapshot.stream("raw_bids", ALL), strict=True)
        ]
    assert all(one == two for one, two in together)
    assert len(together) > 3
