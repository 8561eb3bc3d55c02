"""Dagster's instance on our PostgreSQL, with all local state under the platform's home folder.

`dagster.yaml` names the three classes below; each takes its place from the settings, so that `dagster dev`, the daemon, run
workers and the command line agree without any URL in a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import EventLogStorage, SqlEventLogStorageTable
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage

from bid_assets.app_db.connections import add_deadlines_to_all_engines
from bid_assets.app_db.database import dagster_db_url
from bid_assets.common.private_state import ensure_private_home, restrict_umask
from bid_assets.settings import get_settings

INSTANCE_FILE = "dagster.yaml"
EVENTS_AT_ONCE = "1000"
"""Dagster hands so many events of a range run to the storage together."""
LONGEST_SILENCE = 120.0
"""Seconds that Dagster waits for an answer of its database: twice what the statements of its web server may take."""


class BatchedEventLog(PostgresEventLogStorage):
    """The event log, with the events by which a run plans its materializations and checks written in batches.

    There is one for each asset and window. Dagster hands them over together, but its PostgreSQL storage batches only events of
    materializations and commits each of these by itself: minutes for a long history, before the first step of a run begins.
    Rows are handed to SQLAlchemy beside the statement: as a part of it they would be compiled, which takes longer than all
    else.
    """

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """One statement for what is planned; all else as Dagster does it."""
        planned = [event for event in events if event.get_dagster_event().is_asset_materialization_planned]
        if planned:
            self._store_planned(planned)
        if others := [event for event in events if not event.get_dagster_event().is_asset_materialization_planned]:
            super().store_event_batch(others)

    def _store_planned(self, events: Sequence[EventLogEntry]) -> None:
        """The events, and each asset's newest run: what `store_event` writes for each of them."""
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        with self._connect() as connection:
            inserted = connection.execute(insert, [self._event_to_row(event) for event in events])
            newest = {event.get_dagster_event().asset_key: (event, row[0]) for event, row in zip(events, inserted, strict=True)}
        with self.index_transaction() as connection:
            for event, event_id in newest.values():
                self._store_asset_event(connection, event, event_id)

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """A row for each window of the run, as Dagster has it, which makes the text of the event anew for each."""
        planned = event.get_dagster_event().asset_check_planned_data
        subset, logged = planned.partitions_subset, self._event_to_row(event)
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": logged["event"],
            "evaluation_event_timestamp": logged["timestamp"],
            "evaluation_event_storage_id": event_id,
        }
        rows = [{**row, "partition": key} for key in (subset.get_partition_keys() if subset else [None])]
        with self.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.insert(), rows)


class PostgresStorage(DagsterPostgresStorage):
    """Runs, events and schedules in your PostgreSQL where a URL is set, in the embedded one otherwise."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, should_autocreate_tables=True, inst_data=inst_data)
        self._event_log_storage = BatchedEventLog(postgres_url, should_autocreate_tables=True)

    @property
    def event_log_storage(self) -> EventLogStorage:
        """Ours."""
        return self._event_log_storage

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing: the settings say it all."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> PostgresStorage:
        """Storage at the URL of the settings. SQLAlchemy must be told to use psycopg 2, as dagster-postgres does."""
        restrict_umask()  # the first that Dagster does in each of its processes, also where it was started without us
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", EVENTS_AT_ONCE)
        add_deadlines_to_all_engines(min(get_settings().db_silence_seconds, LONGEST_SILENCE))
        url = dagster_db_url(get_settings()).replace("postgresql://", "postgresql+psycopg2://", 1)
        return cls(url, inst_data)


class HomeArtifactStorage(LocalArtifactStorage):
    """Dagster's local files, under `<home>/dagster`."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing: the settings say it all."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> HomeArtifactStorage:
        """Files under the home of the settings."""
        return cls(base_dir=str(state_folder()), inst_data=inst_data)


class HomeComputeLogManager(LocalComputeLogManager):
    """What steps print, under `<home>/dagster/compute_logs`."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing: the settings say it all."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> HomeComputeLogManager:
        """Logs under the home of the settings."""
        return cls(base_dir=str(state_folder() / "compute_logs"), inst_data=inst_data)


def state_folder() -> Path:
    """Where Dagster keeps its local files."""
    folder = ensure_private_home(get_settings().home) / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def dagster_home() -> Path:
    """The folder of `dagster.yaml`: DAGSTER_HOME, or the nearest one at or above the working folder or the package."""
    if home := os.environ.get("DAGSTER_HOME"):
        return Path(home)
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / INSTANCE_FILE).is_file():
            return folder
    raise FileNotFoundError(
        f"no {INSTANCE_FILE} in {here} or above: run in the checkout of bid_assets, or set DAGSTER_HOME to a folder that has "
        f"one"
    )


def open_instance() -> dg.DagsterInstance:
    """The instance that the web server and the daemon use too."""
    os.environ.setdefault("DAGSTER_HOME", str(dagster_home()))
    instance = dg.DagsterInstance.get()
    # thousands of events: keep the connections, as the web server does, instead of opening one for each event
    instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3600, max_overflow=20)
    return instance
