"""A connection to the prediction database (ADBC): Arrow to and from PostgreSQL by COPY."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import adbc_driver_manager as adbc
import pyarrow as pa

from bid_assets.app_db.arrow_connections import ArrowConnections
from bid_assets.app_db.connections import DatabaseUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENCE_SECONDS = 30.0
"""A database that is silent for so long while predictions are written or read counts as unreachable."""


class PredictionConnection:
    """A connection to the PostgreSQL at a libpq URL, in autocommit. Not for several threads at once.

    Raises `DatabaseUnreachableError` (without the password) where it cannot be opened or the database is silent, else
    `adbc_driver_manager.Error`.
    """

    def __init__(self, url: str, *, silence: float = SILENCE_SECONDS) -> None:
        self._connections = ArrowConnections(
            url, 1, silence=silence, at_start_up=True, purpose="the prediction database", limit="its limit"
        )
        [self._connection] = self._connections.connections

    def execute(self, *statements: str) -> None:
        """Execute statements that return no rows."""
        for statement in statements:
            with self._statement(statement) as prepared, self._connections.deadline():
                prepared.execute_update()

    def execute_each(self, statement: str, parameters: pa.RecordBatch) -> None:
        """Execute a statement once for each row of `parameters`: `$1` is its first column."""
        with self._statement(statement) as prepared, self._connections.deadline():
            prepared.prepare()
            prepared.bind(parameters)
            prepared.execute_update()

    def append(self, rows: pa.RecordBatch, table: str, *, schema: str | None) -> None:
        """Append rows to a table by COPY, all or none; `schema=None`: to a temporary table."""
        target = {"adbc.ingest.temporary": "true"} if schema is None else {"adbc.ingest.target_db_schema": schema}
        with self._statement() as statement:
            statement.set_options(
                **{"adbc.ingest.target_table": table, "adbc.ingest.mode": "adbc.ingest.mode.append", **target}
            )
            with self._connections.deadline():
                statement.bind(rows)
                statement.execute_update()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end of the block, or roll back."""
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            with suppress(adbc.Error, DatabaseUnreachableError):  # of a connection that is gone
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    @contextmanager
    def stream(self, query: str) -> Iterator[pa.RecordBatchReader]:
        """The rows of a query, for as long as the block runs; a few megabytes of them are held at a time."""
        with self._statement(query) as statement:
            with self._connections.deadline():
                handle, _ = statement.execute_query()
                rows = pa.RecordBatchReader.from_stream(handle)
            yield pa.RecordBatchReader.from_batches(rows.schema, self._batches(rows))

    def fetch(self, query: str) -> pa.Table:
        """All rows of a query."""
        with self.stream(query) as rows:
            return rows.read_all()

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        self._connections.close()

    def _batches(self, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """Each wait for more rows has a deadline of its own."""
        while True:
            with self._connections.deadline():
                batch = next(rows, None)
            if batch is None:
                return
            yield batch

    @contextmanager
    def _statement(self, query: str | None = None) -> Iterator[adbc.AdbcStatement]:
        statement = adbc.AdbcStatement(self._connection)
        try:
            if query is not None:
                statement.set_sql_query(query)
            yield statement
        finally:
            statement.close()
