from __future__ import annotations

from pathlib import Path

import dagster as dg
import psycopg2
import pytest
from dagster._core.instance import InstanceRef

from bid_assets.instance import HomeComputeLogManager, PostgresStorage, dagster_home, state_folder
from bid_assets.settings import Settings
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
