"""The tables of the prediction log: their definition, idempotent inserts, daily partitions and their retention.

    bid_assets.predictions      one row per prediction, one partition per day (`predictions_20261130`), created when needed
    bid_assets.model_features   the names of the numbers in `features`, per model version

Several processes may do all of this at once: whatever creates or drops tables takes an advisory lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import adbc_driver_manager as adbc
import numpy as np
import pyarrow as pa

from bid_assets.common.windows import MICROSECONDS_PER_DAY
from bid_assets.prediction_log.connection import PredictionConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "bid_assets"
PREDICTIONS = f"{SCHEMA}.predictions"
MODEL_FEATURES = f"{SCHEMA}.model_features"

COLUMNS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        ("bid_id", pa.string()),
        ("profile_id", pa.string()),
        ("job_id", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
        pa.field("decision", pa.bool_(), nullable=False),
        pa.field("features", pa.list_(pa.float32()), nullable=False),
    ]
)
"""The columns of the table, and of `raw_predictions`."""

_SQL_TYPES = {
    pa.string(): 'text COLLATE "C"',  # so that the order of ids is the same on every server
    pa.timestamp("us", tz="UTC"): "timestamptz",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.list_(pa.float32()): "real[]",
}
_CREATE = (
    f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
    f"CREATE TABLE IF NOT EXISTS {PREDICTIONS} (%s, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)"
    % ", ".join(f"{field.name} {_SQL_TYPES[field.type]}{'' if field.nullable else ' NOT NULL'}" for field in COLUMNS),
    f'CREATE TABLE IF NOT EXISTS {MODEL_FEATURES} (model text COLLATE "C" PRIMARY KEY, names text[] NOT NULL)',
)
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('bid_assets.predictions'))"
_STAGING_TABLE = "predictions_staging"
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '100ms'"
"""A partition is dropped only while nobody reads it: a pending lock would make every writer wait behind it."""

_EPOCH = date(1970, 1, 1)


class PredictionTables:
    """The tables in the database at a libpq URL, created where they are absent. After an error, open a new instance."""

    def __init__(self, url: str) -> None:
        self._connection = PredictionConnection(url)
        self._partitioned_days: set[int] = set()
        if not tables_exist(self._connection):
            with self._exclusive_transaction():
                self._connection.execute(*_CREATE)

    def name_features(self, names: Mapping[str, Sequence[str]]) -> None:
        """Insert the names of the features of models, by version."""
        batch = pa.record_batch(
            [pa.array(list(names), pa.string()), pa.array([list(each) for each in names.values()], pa.list_(pa.string()))],
            ["model", "names"],
        )
        self._connection.execute_each(f"INSERT INTO {MODEL_FEATURES} VALUES ($1, $2) ON CONFLICT DO NOTHING", batch)

    def insert(self, rows: pa.RecordBatch, *, may_exist: bool) -> None:
        """Insert rows with the schema `COLUMNS` in one transaction. `may_exist`: some of them may be in the table already."""
        self._create_partitions(rows)
        if not may_exist:
            self._connection.append(rows, "predictions", schema=SCHEMA)
            return
        with self._connection.transaction():
            self._connection.execute(f"CREATE TEMPORARY TABLE {_STAGING_TABLE} (LIKE {PREDICTIONS}) ON COMMIT DROP")
            self._connection.append(rows, _STAGING_TABLE, schema=None)
            self._connection.execute(f"INSERT INTO {PREDICTIONS} SELECT * FROM {_STAGING_TABLE} ON CONFLICT DO NOTHING")

    def drop_before(self, day: date) -> int:
        """Drop the partitions of days before `day`; how many. One that is being read stays until the next time."""
        old = [name for name, first in daily_partitions(self._connection) if first < day]
        for dropped, name in enumerate(old):
            try:
                with self._exclusive_transaction():
                    self._connection.execute(_LOCK_TIMEOUT, f"DROP TABLE IF EXISTS {SCHEMA}.{name}")
            except adbc.Error as error:
                if error.sqlstate != "55P03":  # lock not available
                    raise
                return dropped
        return len(old)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _create_partitions(self, rows: pa.RecordBatch) -> None:
        """Create the partitions of these rows and attach them: creating them in place would wait for every reader to end."""
        moments = rows.column("at").cast(pa.int64()).to_numpy(zero_copy_only=False)
        for day in {int(day) for day in np.unique(moments // MICROSECONDS_PER_DAY)} - self._partitioned_days:
            first = _EPOCH + timedelta(days=day)
            name = f"{SCHEMA}.predictions_{first:%Y%m%d}"
            with self._exclusive_transaction():
                if self._connection.fetch(f"SELECT to_regclass('{name}') IS NULL AS absent")["absent"][0].as_py():
                    self._connection.execute(
                        f"CREATE TABLE {name} (LIKE {PREDICTIONS} INCLUDING ALL)",
                        f"ALTER TABLE {PREDICTIONS} ATTACH PARTITION {name} FOR VALUES FROM ('{first} 00:00+00') "
                        f"TO ('{first + timedelta(days=1)} 00:00+00')",
                    )
            self._partitioned_days.add(day)

    @contextmanager
    def _exclusive_transaction(self) -> Iterator[None]:
        """A transaction that holds the advisory lock: no other process creates or drops meanwhile."""
        with self._connection.transaction():
            self._connection.fetch(_LOCK)
            yield


def tables_exist(connection: PredictionConnection) -> bool:
    """Whether the tables exist."""
    names = f"'{PREDICTIONS}', '{MODEL_FEATURES}'"
    table = connection.fetch(f"SELECT count(to_regclass(name)) AS found FROM unnest(ARRAY[{names}]) AS name")
    return bool(table["found"][0].as_py() == 2)


def daily_partitions(connection: PredictionConnection) -> list[tuple[str, date]]:
    """Names and days of the partitions, oldest first."""
    table = connection.fetch(
        f"SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = '{PREDICTIONS}'::regclass "
        "AND relname ~ '^predictions_[0-9]{8}$' ORDER BY relname"
    )
    names = table["relname"].to_pylist()
    return [(name, datetime.strptime(name, "predictions_%Y%m%d").replace(tzinfo=UTC).date()) for name in names]
