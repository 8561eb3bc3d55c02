"""Predictions in the graph: real Dagster runs over what a real log has written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg2
import pyarrow as pa
import pytest

from bid_assets.orchestration.assets.predictions import FEATURE_NAMES, RAW_PREDICTIONS
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.in_process_runs import RunOutcome, materialize, partition_tags
from bid_assets.orchestration.partitions import windows
from bid_assets.orchestration.schedules import schedules
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.conftest import settings_for
from bid_assets_tests.serving.predictions import NAMES, logged_rows, make_records, write

WEEKS = ["2026-10-26", "2026-11-02", "2026-11-09", "2026-11-16"]
FIRST = datetime(2026, 10, 26, tzinfo=UTC)
ENDS = [FIRST, FIRST + timedelta(days=7), FIRST + timedelta(days=14) - timedelta(microseconds=1), FIRST + timedelta(days=23)]
"""Moments of predictions: both ends of windows, and none in the third one."""


@pytest.fixture
def settings(app_db: str, dagster_db: str, tmp_path: Path) -> Iterator[Settings]:
    with settings_for(tmp_path, app_db, dagster_db, PREDICTION_RETENTION_DAYS=36_500) as made:
        yield made


@pytest.fixture
def store(settings: Settings) -> VersionStore:
    return VersionStore(settings.resolved_store_url)


@pytest.fixture
def logged(settings: Settings) -> None:
    write(settings, [one for number, at in enumerate(ENDS, start=1) for one in make_records(number, at)])


def run(settings: Settings, instance: dg.DagsterInstance, keys: list[str]) -> RunOutcome:
    outcome = materialize(build_defs(settings), instance, [RAW_PREDICTIONS], keys)
    assert outcome.succeeded, outcome.failures
    return outcome


def heads(store: VersionStore) -> list[Manifest]:
    found = store.heads(RAW_PREDICTIONS, WEEKS)
    return [found[key] for key in WEEKS]


def rows(store: VersionStore) -> pa.Table:
    return WindowedTable(store, RAW_PREDICTIONS, WEEKS, store.heads(RAW_PREDICTIONS, WEEKS)).read()


def execute(settings: Settings, statement: str) -> None:
    with psycopg2.connect(str(settings.dagster_db_url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


@pytest.mark.usefixtures("logged")
def test_predictions_are_in_the_window_of_their_time(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, WEEKS)
    assert [head.rows for head in heads(store)] == [1, 5, 0, 4]
    assert rows(store).cast(logged_rows(settings).schema).to_pandas().equals(logged_rows(settings).to_pandas())
    assert [head.info[FEATURE_NAMES] for head in heads(store)] == [{"model_1": NAMES}] * 2 + [{}] + [{"model_1": NAMES}]


@pytest.mark.usefixtures("logged")
def test_a_second_run_makes_no_new_version_and_windows_one_by_one_are_the_same_as_a_range(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, WEEKS)
    first = heads(store)
    for key in WEEKS:
        run(settings, dagster_instance, [key])
    assert heads(store) == first
    assert len(store.versions(RAW_PREDICTIONS)) == len(WEEKS)


def test_before_anything_was_remembered_a_window_is_empty_and_says_why(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, WEEKS)
    assert [head.rows for head in heads(store)] == [0, 0, 0, 0]
    assert "no service has remembered predictions in this database yet" in heads(store)[0].info["remark"]


@pytest.mark.usefixtures("logged")
def test_what_has_left_the_database_stays_in_the_store(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, WEEKS)
    first = heads(store)
    execute(settings, "DROP TABLE bid_assets.predictions_20261026, bid_assets.predictions_20261102")
    run(settings, dagster_instance, WEEKS)
    assert heads(store) == first
    execute(settings, "DROP SCHEMA bid_assets CASCADE")
    run(settings, dagster_instance, WEEKS)
    assert heads(store) == first
    write(settings, make_records(7, ENDS[-1] + timedelta(hours=1), model="model_2"))
    run(settings, dagster_instance, WEEKS)
    assert [head.rows for head in heads(store)] == [1, 5, 0, 11]
    assert set(heads(store)[-1].info[FEATURE_NAMES]) == {"model_1", "model_2"}


def test_a_database_that_does_not_answer_is_a_failure_not_an_empty_window(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    lost = settings.model_copy(update={"prediction_db_url": "postgresql://nobody:hunter2@127.0.0.1:1/nothing"})
    outcome = materialize(build_defs(lost, store), dagster_instance, [RAW_PREDICTIONS], WEEKS)
    assert not outcome.succeeded
    assert "cannot connect to the prediction database" in outcome.failures[0]
    assert "hunter2" not in outcome.failures[0]
    assert not store.partitions(RAW_PREDICTIONS)


def asked(settings: Settings, store: VersionStore, at: datetime) -> dg.RunRequest | dg.SkipReason:
    [schedule] = [each for each in schedules(settings, store) if each.name == "nightly_predictions"]
    with dg.build_schedule_context(scheduled_execution_time=at) as context:
        answer = schedule(context)
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def keys_asked(answer: dg.RunRequest | dg.SkipReason) -> list[str]:
    """The first and the last window."""
    assert isinstance(answer, dg.RunRequest)
    known = windows(Settings()).get_partition_keys(current_time=datetime(2026, 11, 20, tzinfo=UTC))
    keys = [answer.partition_key] if answer.partition_key else [answer.tags[name] for name in partition_tags(["a", "b"])]
    assert set(keys) <= set(known)
    return [str(key) for key in keys]


@pytest.mark.usefixtures("logged")
def test_every_night_the_open_window_is_read_and_each_that_has_ended_since(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    thursday = datetime(2026, 11, 19, 2, 30, tzinfo=UTC)
    assert keys_asked(asked(settings, store, thursday)) == [WEEKS[0], WEEKS[-1]]
    run(settings, dagster_instance, WEEKS[:2])
    assert keys_asked(asked(settings, store, thursday)) == [WEEKS[1], WEEKS[-1]]
    run(settings, dagster_instance, WEEKS)
    assert keys_asked(asked(settings, store, thursday)) == [WEEKS[-1]]
    monday = datetime(2026, 11, 16, 2, 30, tzinfo=UTC)
    assert keys_asked(asked(settings, store, monday)) == WEEKS[-2:]


def test_no_night_has_anything_to_read_before_the_service_was_used(settings: Settings, store: VersionStore) -> None:
    answer = asked(settings, store, datetime(2026, 11, 19, 2, 30, tzinfo=UTC))
    assert isinstance(answer, dg.SkipReason)
    assert "no prediction has been remembered yet" in str(answer.skip_message)
