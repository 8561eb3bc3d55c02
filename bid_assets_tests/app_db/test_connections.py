"""Connections end their waits, keep what the URL says, and never show a password."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg2
import pytest

from bid_assets.app_db.connections import DatabaseUnreachableError, connect, engine, snapshot
from bid_assets.app_db.point_lookup import PointLookup
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.prediction_log.connection import PredictionConnection
from bid_assets_tests.app_db.database import MONDAY, bid, execute, insert, outcome, read, snapshot_of, standard_tables
from bid_assets_tests.conftest import administer
from bid_assets_tests.proxies import Proxy, proxy_to

SOON = 0.6
"""The deadline of these tests; what ends by it ends within a few seconds, however busy the machine is."""


@pytest.fixture
def proxy(app_db: str) -> Iterator[Proxy]:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY)])
    with proxy_to(app_db) as made:
        yield made


def seconds_of(work: Callable[[], Any], *, fails_with: type[Exception]) -> float:
    started = time.monotonic()
    with pytest.raises(fails_with):
        work()
    return time.monotonic() - started


def test_a_statement_on_a_silent_connection_ends_by_the_deadline(proxy: Proxy) -> None:
    connection = connect(proxy.url, silence=SOON)
    proxy.swallow()
    with connection.cursor() as cursor:
        assert SOON <= seconds_of(lambda: cursor.execute("select 1"), fails_with=psycopg2.OperationalError) < 5
    assert connection.closed


def test_a_commit_on_a_silent_connection_ends_by_the_deadline(proxy: Proxy) -> None:
    connection = connect(proxy.url, silence=SOON)
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    proxy.swallow()
    assert seconds_of(connection.commit, fails_with=psycopg2.OperationalError) < 5


def test_the_reading_of_a_snapshot_over_a_silent_network_ends_by_the_deadline(proxy: Proxy) -> None:
    def read() -> None:
        with snapshot_of(proxy.url, silence=SOON) as taken:
            assert taken.extent() is not None
            proxy.swallow()
            taken.watermark()

    assert SOON <= seconds_of(read, fails_with=DatabaseUnreachableError) < 5


def test_the_sensors_snapshot_over_a_silent_network_ends_by_the_deadline(proxy: Proxy) -> None:
    def ask() -> None:
        with snapshot(proxy.url, silence=SOON) as cursor:
            proxy.swallow()
            cursor.execute("select 1")

    assert seconds_of(ask, fails_with=DatabaseUnreachableError) < 5


def test_writing_predictions_over_a_silent_network_ends_by_the_deadline(proxy: Proxy) -> None:
    connection = PredictionConnection(proxy.url, silence=SOON)
    proxy.swallow()
    assert seconds_of(lambda: connection.fetch("select 1 as one"), fails_with=DatabaseUnreachableError) < 5
    connection.close()


def test_a_look_up_after_silence_is_made_over_a_fresh_connection(proxy: Proxy) -> None:
    lookup = PointLookup(proxy.url, seconds=SOON)
    ask = lambda: lookup.fetch(["p1"], ["j1"], MONDAY, MONDAY + timedelta(days=7))  # noqa: E731
    assert set(ask().profiles) == {"p1"}
    proxy.swallow()
    started = time.monotonic()
    assert ask().profile_history.owners == ["p1"]
    assert time.monotonic() - started < 5
    lookup.close()


def test_look_ups_of_every_thread_fail_within_the_deadline_while_all_is_silent_and_work_when_it_is_over(proxy: Proxy) -> None:
    lookup = PointLookup(proxy.url, seconds=SOON)
    failures: list[Exception] = []

    def ask() -> None:
        try:
            lookup.fetch(["p1"], [], MONDAY, MONDAY + timedelta(days=7))
        except Exception as error:
            failures.append(error)

    def in_threads() -> float:
        started = time.monotonic()
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return time.monotonic() - started

    in_threads()
    assert (failures, lookup.failure) == ([], None)
    proxy.swallow(new_ones_too=True)
    assert in_threads() < 10  # libpq itself waits five seconds for a connection
    assert {type(failure) for failure in failures} == {DatabaseUnreachableError}
    assert lookup.failure is not None
    failures.clear()
    proxy.recover()
    in_threads()
    assert (failures, lookup.failure) == ([], None)
    lookup.close()


def test_a_long_query_that_sends_rows_all_the_time_is_not_cut_off(proxy: Proxy) -> None:
    with snapshot_of(proxy.url, silence=1.5) as taken, taken._pool.cursor() as cursor:
        started = time.monotonic()
        # 2,000 rows of 10 kB, one a millisecond: more than one batch of the driver's 16 MB
        cursor.execute("select repeat(md5(n::text), 320) || pg_sleep(0.001)::text as text from generate_series(1, 2000) n")
        assert cursor.fetch_arrow_table().num_rows == 2000
        assert time.monotonic() - started > 1.5


def test_an_engine_over_a_silent_network_ends_by_the_deadline(proxy: Proxy) -> None:
    made = engine(proxy.url, silence=SOON)
    with made.connect() as connection:
        proxy.swallow()
        assert seconds_of(lambda: connection.exec_driver_sql("select 1"), fails_with=Exception) < 5
    with made.connect() as connection:
        assert connection.exec_driver_sql("select 1").scalar() == 1
    made.dispose()


@pytest.fixture
def database_in(postgres: EmbeddedServer) -> Iterator[Callable[[str], str]]:
    """Makes a database of an encoding, with the standard tables and one bid."""
    names: list[str] = []

    def make(encoding: str) -> str:
        names.append(f"test_{encoding.lower()}_{time.monotonic_ns()}")
        administer(
            postgres, f"create database {names[-1]} encoding '{encoding}' locale_provider libc locale 'C' template template0"
        )
        url = standard_tables(postgres.url(names[-1]))
        insert(url, "bids", [bid("b1", MONDAY, generated_bid_text="plain")])
        return url

    yield make
    administer(postgres, *(f"drop database {name} with (force)" for name in names))


def test_a_latin1_database_is_read_right_and_an_id_that_it_cannot_hold_is_unknown(database_in: Callable[[str], str]) -> None:
    url = database_in("LATIN1")
    execute(url, "update bids set generated_bid_text = 'caf' || chr(233); update jobs set title = 'caf' || chr(233)")
    assert read(url)["raw_bids"]["generated_bid_text"].to_pylist() == ["caf\u00e9"]
    lookup = PointLookup(url)
    found = lookup.fetch(["p1", "\u03a9"], ["j1"], MONDAY, MONDAY + timedelta(days=7))
    assert (set(found.profiles), found.jobs["j1"]["title"]) == ({"p1"}, "caf\u00e9")
    lookup.close()


def test_a_database_without_an_encoding_is_read_and_a_row_with_text_that_is_not_utf8_stops_no_other_one(
    database_in: Callable[[str], str],
) -> None:
    url = database_in("SQL_ASCII")
    more = [bid("b2", MONDAY), bid("b3", MONDAY, id="b3\\xe9"), bid("b4", MONDAY, profile_id="p1")]
    insert(url, "bids", more)
    insert(url, "bid_outcomes", [outcome("o1", "b1", MONDAY), outcome("o2", "b2", MONDAY)])
    execute(url, r"update bids set generated_bid_text = E'caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80' where id = 'b1'")
    execute(
        url,
        r"update bids set generated_bid_text = E'caf\xe9' where id = 'b2'; update bids set id = E'b3\xe9' where id like 'b3%'",
    )
    execute(url, r"update jobs set title = E'caf\xe9', description = E'caf\xc3\xa9'")
    streams = read(url)
    assert (
        dict(zip(*streams["raw_bids"].select(["id", "generated_bid_text"]).to_pydict().values(), strict=True))["b1"]
        == "café € 😀"
    )
    assert streams["raw_bids"]["id"].to_pylist() == ["b1", "b4"]
    assert streams["raw_bid_outcomes"]["id"].to_pylist() == ["o1"]
    assert {(row["id"], row["reason"]) for row in streams["rejected_rows"].to_pylist()} == {
        ("b2", "generated_bid_text is not UTF-8"),
        (r"b3\351", "id is not UTF-8"),
        ("o2", "its bid b2 was rejected: generated_bid_text is not UTF-8"),
    }
    assert (streams["raw_jobs"]["title"].to_pylist(), streams["raw_jobs"]["description"].to_pylist()) == ([None], ["café"])
    with snapshot_of(url) as taken:
        taken.stream("raw_jobs", taken.extent()).read_all()
        [window] = [int(MONDAY.timestamp() * 1e6)]
        assert taken.readability("raw_jobs").of_window(window)["title"] == {"text that is not UTF-8": 1}
    lookup = PointLookup(url)
    assert lookup.fetch(["p1"], ["j1"], MONDAY, MONDAY + timedelta(days=7)).jobs["j1"]["title"] is None
    lookup.close()
