from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import psycopg2
import pytest
from dagster._core.instance import InstanceRef
from dagster_postgres.event_log import PostgresEventLogStorage

from bid_assets.orchestration.in_process_runs import partition_tags
from bid_assets.orchestration.instance import (
    BatchedEventLog,
    HomeComputeLogManager,
    PostgresStorage,
    dagster_home,
    state_folder,
)
from bid_assets.settings import Settings
from bid_assets_tests.app_db.database import rows
from bid_assets_tests.conftest import CHECKOUT


def test_runs_and_events_are_kept_in_the_database_of_the_settings(
    dagster_instance: dg.DagsterInstance, settings: Settings
) -> None:
    assert settings.dagster_db_url is not None
    connection = psycopg2.connect(settings.dagster_db_url)
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from information_schema.tables where table_name in ('runs', 'event_logs')")
        assert cursor.fetchone() == (2,)
    connection.close()


def test_local_state_lies_under_the_home_folder(dagster_instance: dg.DagsterInstance, settings: Settings) -> None:
    assert state_folder().is_relative_to(settings.home)
    assert Path(dagster_instance.storage_directory()).is_relative_to(settings.home)


def test_a_child_process_makes_the_same_instance_from_its_reference(dagster_instance: dg.DagsterInstance) -> None:
    copy = dg.DagsterInstance.from_ref(InstanceRef.from_dict(dagster_instance.get_ref().to_dict()))
    assert isinstance(copy.get_ref().storage, PostgresStorage)
    assert copy.event_log_storage.postgres_url == dagster_instance.event_log_storage.postgres_url  # type: ignore[attr-defined]
    assert isinstance(copy.compute_log_manager, HomeComputeLogManager)


def test_telemetry_is_off(dagster_instance: dg.DagsterInstance) -> None:
    assert dagster_instance.telemetry_enabled is False


def test_the_home_of_dagster_is_the_folder_of_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert dagster_home() == CHECKOUT
    (tmp_path / "dagster.yaml").write_text("")
    assert dagster_home() == tmp_path
    monkeypatch.setenv("DAGSTER_HOME", "/elsewhere")
    assert dagster_home() == Path("/elsewhere")


OURS = ("store_event_batch", "_store_asset_check_evaluation_planned")
"""What our event log overrides."""

DAYS = dg.DailyPartitionsDefinition("2026-01-01", "2026-03-02")


def plan_a_range_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run of two assets and a check over sixty windows, created and not yet begun."""

    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def one() -> None: ...

    @dg.asset(
        partitions_def=DAYS,
        deps=[one],
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec("not_empty", asset="two")],
    )
    def two(): ...  # type: ignore[no-untyped-def]  # Dagster takes no `None` where there are checks

    job = dg.Definitions([one, two]).resolve_implicit_global_asset_job_def()
    keys = DAYS.get_partition_keys()
    return instance.create_run_for_job(
        job_def=job, asset_selection=set(map(dg.AssetKey, ("one", "two"))), tags=partition_tags(keys)
    )


def planned(settings: Settings, run: dg.DagsterRun) -> list[Sequence[Any]]:
    """What the database knows of a run that has not begun: its events, what its assets' newest run is, and its checks."""
    assert settings.dagster_db_url is not None
    events = "select dagster_event_type, asset_key, partition from event_logs where run_id = '{}' order by 1, 2, 3"
    assets = "select asset_key, last_run_id = '{}', last_materialization_timestamp is not null from asset_keys order by 1"
    checks = (
        "select check_name, c.asset_key, c.partition, execution_status, materialization_event_storage_id, "
        "replace(evaluation_event, c.run_id, '') = replace(event, c.run_id, '') and evaluation_event_timestamp = timestamp "
        "from asset_check_executions c join event_logs e on e.id = evaluation_event_storage_id where c.run_id = '{}' order by "
        "1, 3"
    )
    return [rows(settings.dagster_db_url, query.format(run.run_id)) for query in (events, assets, checks)]


def test_what_a_run_plans_is_written_in_batches_and_is_what_dagster_would_write(
    dagster_instance: dg.DagsterInstance, settings: Settings
) -> None:
    with patch.object(BatchedEventLog, "store_event", autospec=True, side_effect=PostgresEventLogStorage.store_event) as single:
        batched = planned(settings, plan_a_range_run(dagster_instance))
    assert single.call_count == 1  # the check's
    with patch.multiple(BatchedEventLog, **{name: getattr(PostgresEventLogStorage, name) for name in OURS}):
        one_by_one = planned(settings, plan_a_range_run(dagster_instance))
    assert batched == one_by_one
    assert len(batched[0]) == 2 * len(DAYS.get_partition_keys()) + 1
    assert len(batched[2]) == len(DAYS.get_partition_keys())


def test_dagster_itself_commits_each_planned_event_alone(dagster_instance: dg.DagsterInstance) -> None:
    """Pinned: once it does not, `BatchedEventLog` can go."""
    store_event = PostgresEventLogStorage.store_event
    with (
        patch.object(BatchedEventLog, "store_event_batch", PostgresEventLogStorage.store_event_batch),
        patch.object(BatchedEventLog, "store_event", autospec=True, side_effect=store_event) as single,
    ):
        plan_a_range_run(dagster_instance)
    assert single.call_count == 2 * len(DAYS.get_partition_keys()) + 1
