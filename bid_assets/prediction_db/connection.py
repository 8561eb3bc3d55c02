"""One connection over which Arrow goes to and from PostgreSQL by COPY."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import adbc_driver_manager as adbc
import adbc_driver_postgresql
import pyarrow as pa

from bid_assets.app_db.database import DatabaseUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = "connect_timeout=5&keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=15000"
"""A server that is gone without a word is noticed within half a minute."""


class Connection:
    """A connection to the PostgreSQL at a libpq URL, in autocommit. Not for several threads at once.

    Raises `DatabaseUnreachable` (without the password) when made, and `adbc_driver_manager.Error` afterwards.
    """

    def __init__(self, url: str) -> None:
        try:
            self._database = adbc_driver_postgresql.connect(f"{url}{'&' if '?' in url else '?'}{_PATIENCE}")
            self._connection = adbc.AdbcConnection(self._database)
        except adbc.Error as error:
            raise DatabaseUnreachable(f"cannot connect to the prediction database: {without_password(url, error)}") from None

    def execute(self, *statements: str) -> None:
        """Run statements that give no rows."""
        for statement in statements:
            with self._statement(statement) as prepared:
                prepared.execute_update()

    def execute_each(self, statement: str, parameters: pa.RecordBatch) -> None:
        """Run a statement once for each row of `parameters`: `$1` is its first column."""
        with self._statement(statement) as prepared:
            prepared.prepare()
            prepared.bind(parameters)
            prepared.execute_update()

    def append(self, rows: pa.RecordBatch, table: str, *, schema: str | None) -> None:
        """Append rows to a table by COPY, all or none; `schema=None`: to a temporary table."""
        place = {"adbc.ingest.temporary": "true"} if schema is None else {"adbc.ingest.target_db_schema": schema}
        with self._statement() as statement:
            statement.set_options(**{"adbc.ingest.target_table": table, "adbc.ingest.mode": "adbc.ingest.mode.append", **place})
            statement.bind(rows)
            statement.execute_update()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end of the block, or roll back."""
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            with suppress(adbc.Error):  # of a connection that is gone
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    @contextmanager
    def stream(self, query: str) -> Iterator[pa.RecordBatchReader]:
        """The rows of a query, for as long as the block runs; a few megabytes of them are held at a time."""
        with self._statement(query) as statement:
            handle, _ = statement.execute_query()
            yield pa.RecordBatchReader.from_stream(handle)

    def fetch(self, query: str) -> pa.Table:
        """All rows of a query."""
        with self.stream(query) as rows:
            return rows.read_all()

    def close(self) -> None:
        """Close it; whatever was not committed is rolled back."""
        with suppress(adbc.Error):
            self._connection.close()
            self._database.close()

    @contextmanager
    def _statement(self, query: str | None = None) -> Iterator[adbc.AdbcStatement]:
        statement = adbc.AdbcStatement(self._connection)
        try:
            if query is not None:
                statement.set_sql_query(query)
            yield statement
        finally:
            statement.close()


def without_password(url: str, error: Exception) -> str:
    """What an error says, where the driver may have quoted the URL."""
    password = urlsplit(url).password
    told = str(error).strip()
    return told.replace(password, "***") if password else told
