"""ADBC connections to PostgreSQL, which transfer Arrow: with the session parameters of `connections.py` and deadlines of their
own.

The driver does not give its sockets away, and its waits have no end. So its sockets are those that are new after connecting.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import adbc_driver_manager as adbc
import adbc_driver_postgresql
import psycopg2.extensions

from bid_assets.app_db.connections import (
    CONNECTING_SECONDS,
    SILENCE_SECONDS,
    DatabaseUnreachableError,
    first_line,
    parse_options,
    parse_url,
    with_timeouts,
    without_password,
)
from bid_assets.app_db.socket_deadlines import Deadline, connected_since, duplicate, open_sockets, shut

DRIVER_ERRORS = (adbc.Error, OSError)
"""The driver's, when a statement begins; Arrow's, when rows have begun to come."""

BATCH = {"adbc.postgresql.batch_size_hint_bytes": str(2 << 20)}
"""Option of a statement: rows come so many bytes at a time, each of which is a sign of life."""

_connecting = threading.Lock()
"""The sockets of a connection are those that are new when it has been made."""


class ArrowConnections:
    """Some connections to one database, in autocommit. Raises `DatabaseUnreachableError` when made.

    `at_start_up`: the options of the URL go with the connection, which a pooler refuses; otherwise they are in `options`,
    for every transaction to set. `limit` is where the deadline was set, for the message.
    """

    def __init__(
        self,
        url: str,
        count: int,
        *,
        silence: float = SILENCE_SECONDS,
        at_start_up: bool = False,
        purpose: str = "the application's database",
        limit: str = "BID_ASSETS_DB_SILENCE_SECONDS",
    ) -> None:
        self.silence = silence
        self._timeout_message = f"{purpose} has said nothing for {silence:g} s ({limit})"
        parameters = with_timeouts({**parse_url(url), "client_encoding": "UTF8"})
        self.options = {} if at_start_up else parse_options(parameters.pop("options", ""))
        default_port = os.environ.get("PGPORT", "5432")
        ports = [port or default_port for port in parameters.get("port", "").split(",")]
        with _connecting:
            before = open_sockets()
            wait = Deadline(CONNECTING_SECONDS, lambda: connected_since(before, ports))
            try:
                with wait:
                    self.database = adbc_driver_postgresql.connect(psycopg2.extensions.make_dsn(**parameters))
                    self.connections = [adbc.AdbcConnection(self.database) for _ in range(count)]
            except adbc.Error as error:
                reason = f"no answer in {CONNECTING_SECONDS:g} s" if wait.expired else without_password(url, first_line(error))
                raise DatabaseUnreachableError(f"cannot connect to {purpose} at {without_password(url)}: {reason}") from None
            self._sockets = connected_since(before, ports)

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Calls in this block end by the deadline, with `DatabaseUnreachableError`."""
        wait = Deadline(self.silence, self._duplicates)
        try:
            with wait:
                yield
        except DRIVER_ERRORS:
            if not wait.expired:
                raise
        if wait.expired:
            raise DatabaseUnreachableError(self._timeout_message)

    def shut(self) -> None:
        """Shut the sockets down, which ends waits in other threads."""
        shut(self._duplicates())

    def close(self) -> None:
        """Close them; what was not committed is rolled back."""
        with suppress(adbc.Error):
            for connection in self.connections:
                connection.close()
            self.database.close()
        for one in self._sockets:
            one.close()

    def _duplicates(self) -> list[Any]:
        return [duplicate(one.fileno()) for one in self._sockets]
