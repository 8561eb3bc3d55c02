"""The prediction log, against a real PostgreSQL: what is added is there, whatever happens to the service or to the database."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg2
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from bid_assets.common.windows import TimeRange
from bid_assets.embedded_postgres.server import EmbeddedServer, shared_server
from bid_assets.prediction_log.reader import open_prediction_reader
from bid_assets.prediction_log.schema import PredictionTables
from bid_assets.prediction_log.writer import PredictionLog, PredictionRecord, to_record_batch
from bid_assets.settings import Settings
from bid_assets_tests.conftest import CHECKOUT, fresh_databases, settings_for
from bid_assets_tests.serving.predictions import ALL_TIME, NAMES, logged_rows, make_records, write

NOWHERE = "postgresql://nobody:hunter2@127.0.0.1:1/nothing"


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Iterator[Settings]:
    with settings_for(tmp_path, url, url, PREDICTION_DB_URL=url, PREDICTION_RETENTION_DAYS=36_500) as made:
        yield made


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def child(prefix: str, rows: int, pause: float) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "bid_assets_tests.serving.predictions", prefix, str(rows), str(pause)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)


def lines(running: subprocess.Popen[str], count: int | None = None) -> list[str]:
    """The next lines that it says; all that are left, and its end, where no number is given."""
    assert running.stdout is not None
    if count is not None:
        return [running.stdout.readline() for _ in range(count)]
    left = running.stdout.read().splitlines()
    running.wait()
    return left


def end_gracefully(running: subprocess.Popen[str]) -> int:
    """How many predictions it has added, none of which it lost."""
    running.send_signal(signal.SIGTERM)
    added, flags = lines(running)[-1].split(maxsplit=1)
    assert flags == "added, 0 lost"
    return int(added)


def test_a_prediction_is_remembered_with_all_that_is_known_of_it(settings: Settings) -> None:
    at = datetime(2026, 11, 24, 12, 30, 15, 123456, tzinfo=UTC)
    seen = np.array([0.1, np.nan, -np.inf], np.float32)
    one = PredictionRecord("i", at, "bid", "profile", "job", "model_1", "dataset_1", "canary", 0.1 + 0.2, True, seen)
    write(settings, [one])
    [row] = logged_rows(settings).to_pylist()
    assert np.array_equal(np.array(row.pop("features"), np.float32), seen, equal_nan=True)
    assert row == {name: getattr(one, name) for name in row}


def test_the_numbers_of_each_model_have_names(settings: Settings, url: str) -> None:
    write(settings, make_records(1, model="a"), ["x", "y", "z"])
    write(settings, make_records(1, model="b"), NAMES)
    write(settings, make_records(1, model="b"), NAMES)
    with open_prediction_reader(url) as predictions:
        assert predictions.feature_names(ALL_TIME) == {"a": ["x", "y", "z"], "b": NAMES}


def test_only_the_schema_of_the_platform_is_touched(settings: Settings, url: str) -> None:
    write(settings, make_records(3))
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT schemaname FROM pg_stat_user_tables")
        assert cursor.fetchall() == [("bid_assets",)]


@pytest.fixture(scope="module")
def tables(postgres: EmbeddedServer) -> Iterator[tuple[str, PredictionTables]]:
    with fresh_databases(postgres) as make:
        url = make()
        made = PredictionTables(url)
        yield url, made
        made.close()


number = st.floats(width=32)
name = st.none() | st.text()


@examples(max_examples=20)
@given(
    st.lists(st.tuples(name, name, st.floats(0, 1), st.booleans(), st.lists(number, max_size=4)), min_size=1, max_size=5),
    st.timedeltas(timedelta(0), timedelta(days=2)).map(lambda since: datetime(2026, 1, 1, tzinfo=UTC) + since),
)
def test_law_whatever_is_asked_about_comes_back_as_it_was(
    tables: tuple[str, PredictionTables], values: list[tuple[str | None, str | None, float, bool, list[float]]], at: datetime
) -> None:
    url, table = tables
    made = [
        PredictionRecord(f"{n}", at, None, profile, job, "m", "d", "active", probability, decision, np.array(row, np.float32))
        for n, (profile, job, probability, decision, row) in enumerate(values)
    ]
    table.insert(to_record_batch(made), may_exist=True)
    with open_prediction_reader(url) as predictions, predictions.stream(TimeRange(at, at + timedelta(microseconds=1))) as rows:
        found = rows.read_all()
    table._connection.execute("DELETE FROM bid_assets.predictions")
    assert found["profile_id"].to_pylist() == [each.profile_id and each.profile_id.replace("\0", "\ufffd") for each in made]
    assert found["probability"].to_pylist() == [each.probability for each in made]
    numbers = np.array(found["features"].combine_chunks().flatten())
    assert np.array_equal(numbers, np.concatenate([each.features for each in made]), equal_nan=True)


def test_an_id_that_no_database_can_hold_keeps_nothing_waiting(settings: Settings) -> None:
    write(settings, [*make_records(1, profile_id="nul\0"), *make_records(1, profile_id="half \ud800"), *make_records(1)])
    assert sorted(logged_rows(settings)["profile_id"].to_pylist()) == ["half ?", "nul\ufffd", "p"]


def test_without_a_database_adding_takes_as_little_time_and_the_log_says_why_it_waits(settings: Settings) -> None:
    log = PredictionLog(settings.model_copy(update={"prediction_db_url": NOWHERE}))
    log.add(make_records(1))
    until(lambda: log.error is not None)
    assert "Connection refused" in str(log.error)
    assert "hunter2" not in str(log.error)
    one, times = make_records(1), []
    for _ in range(2000):
        started = time.perf_counter()
        log.add(one)
        times.append(time.perf_counter() - started)
    assert np.median(times) < 50e-6
    assert log.backlog == 2001
    log.close(0.2)
    assert (log.written, log.lost) == (0, 2001)


def test_what_waits_is_bounded_and_the_newest_are_lost_and_counted(settings: Settings) -> None:
    small = settings.model_copy(update={"prediction_log_max_rows": 100})
    log = PredictionLog(small)
    first, second = make_records(60), make_records(70)
    log.add(first)
    log.add(second)
    assert (log.backlog, log.lost) == (100, 30)
    log.close()
    assert (log.backlog, log.written, log.lost) == (0, 100, 30)
    assert set(logged_rows(settings)["id"].to_pylist()) == {each.id for each in [*first, *second[:40]]}


def test_a_server_that_was_down_for_a_while_gets_everything(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    folder = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    own = shared_server(folder / "postgres", durable=False)
    with settings_for(tmp_path, NOWHERE, NOWHERE, PREDICTION_DB_URL=own.url("predictions")) as settings:
        log = PredictionLog(settings)
        log.add(make_records(50))
        until(lambda: log.written == 50)
        own._stop(own.sockets)
        log.add(make_records(50))
        until(lambda: log.error is not None)
        log.add(make_records(50))
        assert log.backlog == 100
        own.ensure_running()
        until(lambda: log.backlog == 0)
        assert (log.written, log.lost, log.error) == (150, 0, None)
        log.close()
        assert logged_rows(settings).num_rows == 150
    own.release()


def test_a_batch_of_which_nobody_knows_whether_it_was_committed_is_not_doubled(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, flags = PredictionTables.insert, []

    def committed_but_cut_off(self: PredictionTables, rows: object, *, may_exist: bool) -> None:
        insert(self, rows, may_exist=may_exist)
        flags.append(may_exist)
        if len(flags) == 1:
            raise ConnectionError("server closed the connection unexpectedly")

    monkeypatch.setattr(PredictionTables, "insert", committed_but_cut_off)
    write(settings, make_records(500))
    assert flags == [False, True]
    assert logged_rows(settings).num_rows == 500


def test_closing_gives_up_after_a_while_and_counts_what_is_lost(settings: Settings) -> None:
    log = PredictionLog(settings.model_copy(update={"prediction_db_url": NOWHERE}))
    log.add(make_records(10))
    started = time.monotonic()
    log.close(0.3)
    assert time.monotonic() - started < 2
    log.add(make_records(5))
    assert (log.written, log.lost) == (0, 15)


def test_several_processes_start_and_write_at_once(settings: Settings) -> None:
    children = [child(prefix, 200, 0.05) for prefix in "ab"]
    for each in children:
        lines(each, 20)
    added = [end_gracefully(each) for each in children]
    assert logged_rows(settings).num_rows == sum(added) > 8000


def test_a_service_that_is_asked_to_end_loses_nothing(settings: Settings) -> None:
    running = child("", 100, 0.025)
    lines(running, 40)
    assert logged_rows(settings).num_rows < end_gracefully(running) == logged_rows(settings).num_rows


def test_a_service_that_is_killed_loses_no_more_than_its_last_second(settings: Settings) -> None:
    running = child("", 100, 0.025)
    output = lines(running, 100)
    running.kill()
    killed = time.time()
    output += lines(running)
    added = [(int(count), float(at)) for count, at in map(str.split, output)]
    old = max(count for count, at in added if at < killed - 1)
    assert old > 5000
    assert set(range(old)) <= {int(each) for each in logged_rows(settings)["id"].to_pylist()}


def test_days_that_are_too_old_go_as_a_whole(settings: Settings) -> None:
    now = datetime.now(UTC)
    write(settings, [one for age in (0, 14, 16, 40) for one in make_records(1, now - timedelta(days=age))])
    assert logged_rows(settings).num_rows == 4
    write(settings.model_copy(update={"prediction_retention_days": 15}), make_records(1))
    left = {(now.date() - at.date()).days for at in logged_rows(settings)["at"].to_pylist()}
    assert left == {0, 14}


def test_a_day_that_somebody_reads_stays_until_the_next_time_and_holds_up_no_writer(settings: Settings, url: str) -> None:
    now = datetime.now(UTC)
    write(settings, make_records(1, now - timedelta(days=30)))
    tables = PredictionTables(url)
    with psycopg2.connect(url) as reading, reading.cursor() as cursor:
        cursor.execute("SELECT * FROM bid_assets.predictions")
        started = time.monotonic()
        assert tables.drop_before(now.date()) == 0
        tables.insert(to_record_batch(make_records(1)), may_exist=False)  # makes a new day under the reader's eyes
        assert time.monotonic() - started < 1
    reading.close()
    assert tables.drop_before(now.date()) == 1
    tables.close()
    assert logged_rows(settings).num_rows == 1
