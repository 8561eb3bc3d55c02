"""Point lookups for serving: a few profiles and jobs, and the recent bids and outcomes of these profiles and clients.

A lookup takes a few milliseconds. Which rows are valid, and how columns are cast, comes from `queries.py`, as for the reader of
whole windows. One statement fetches everything, so that the service waits once; its result is one JSON text, which costs less
than the rows of six statements would. It is prepared once on each connection, unless a pooler lends the connection to others;
each thread has a connection of its own. It says itself whether the tables are still those that it was written for.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import psycopg2
import psycopg2.extensions
import pyarrow as pa

from bid_assets.app_db.connections import (
    DATABASE_ERRORS,
    REQUIRED_PARAMETERS,
    Connection,
    DatabaseRefusalError,
    connect,
    set_config,
    translate_error,
)
from bid_assets.app_db.contract import RAW_JOBS, RAW_PROFILES, REQUIRED_COLUMNS, TEXTS, TIME, ContractError
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.json_values import read_text_list
from bid_assets.app_db.queries import Queries
from bid_assets.app_db.sql_values import micros
from bid_assets.common.windows import Cadence

_PROFILE, _JOB = (schema.remove(schema.get_field_index("window")) for schema in (RAW_PROFILES, RAW_JOBS))
_ID_POSITION = pa.field("id_position", pa.int64())
# Planned once for a connection: planning takes longer than reading what few bids a profile has.
_DEFAULTS = {"plan_cache_mode": "force_generic_plan", "jit": "off", "default_transaction_read_only": "on"}
_GRACE = 0.5
"""Seconds for the server to say itself that time has run out."""

_PLACEHOLDER = re.compile(r"\$([1-5])\b")
_SHAPE = f"""(SELECT md5(string_agg(concat_ws(' ', a.attrelid, a.attname, a.atttypid, a.atttypmod), ','
                                    ORDER BY a.attrelid, a.attnum))
    FROM pg_attribute a WHERE a.attrelid IN ({", ".join(f"to_regclass('{table}')" for table in REQUIRED_COLUMNS)})
    AND a.attnum > 0 AND NOT a.attisdropped)"""
"""Which tables these are, and which columns of which types they have."""


RowDict = dict[str, Any]
"""A row by the columns of its schema, but for the window; times in microseconds."""


@dataclass(frozen=True)
class HistoryColumns:
    """The bid history of some owners (profiles, or clients of the bids' jobs), with outcomes, column by column. Times in
    microseconds."""

    owners: list[str]
    """The owner of each bid."""
    submitted_at: list[int]
    """The submission time of each bid."""
    outcome_ids: list[str]
    """The id of each outcome."""
    outcome_bid_index: list[int]
    """The index of the bid that each outcome is of."""
    is_success: list[bool]
    """The result of each outcome."""
    known_at: list[int]
    """The time of each outcome."""


@dataclass(frozen=True)
class LookupResult:
    """Profiles and jobs by the requested id, and the bid history of the profiles and of the clients."""

    profiles: dict[str, RowDict]
    jobs: dict[str, RowDict]
    profile_history: HistoryColumns
    client_history: HistoryColumns


@dataclass(frozen=True)
class _Query:
    """The statement for the tables as they are, and their shape."""

    statement: str
    shape: str


class _TablesChangedError(Exception):
    """The tables are no longer those that the statement was written for."""


class PointLookup:
    """Point lookups in the application's database at a libpq URL. Threads may share it."""

    def __init__(self, url: str, *, seconds: float = 3) -> None:
        """`seconds`: how long the database may take to answer, each of two times."""
        self._url, self._seconds = url, seconds
        self._local = threading.local()
        self._query: _Query | None = None
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self.failure: str | None = "nothing has been looked up yet"
        """Why the last lookup failed; None where it succeeded."""

    def fetch(
        self,
        profile_ids: Sequence[str],
        job_ids: Sequence[str],
        since: datetime,
        until: datetime,
        client_ids: Sequence[str] = (),
    ) -> LookupResult:
        """What there is of these profiles and jobs; bids of the profiles submitted in [since, until), and all their outcomes.

        The same of all bids on jobs of the clients: those of these jobs, and those named. Raises `DatabaseUnreachableError`,
        `DatabaseRefusalError`, and `ContractError` where the tables are not what they must be.
        """
        try:
            result = self._fetch_with_retry(profile_ids, job_ids, since, until, client_ids)
        except DATABASE_ERRORS as error:
            self.failure = str(error)
            raise
        self.failure = None
        return result

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _fetch_with_retry(self, *arguments: Any) -> LookupResult:
        """One more attempt where a new connection or a new statement may help: a server started anew, tables that changed."""
        for attempts_left in (1, 0):
            try:
                return self._fetch(*arguments)
            except (psycopg2.Error, _TablesChangedError) as error:
                self._drop_all()
                translated = self._translate_error(error)
                if not attempts_left or isinstance(translated, DatabaseRefusalError):
                    raise translated from None
            except (UnicodeDecodeError, orjson.JSONDecodeError) as error:
                raise DatabaseRefusalError(f"the application's database holds text that is not UTF-8: {error}") from None
        raise AssertionError("unreachable")

    def _translate_error(self, error: Exception) -> Exception:
        if isinstance(error, _TablesChangedError):
            return ContractError("the tables of the application's database are being changed")
        return translate_error(self._url, error)

    def _fetch(
        self,
        profile_ids: Sequence[str],
        job_ids: Sequence[str],
        since: datetime,
        until: datetime,
        client_ids: Sequence[str],
    ) -> LookupResult:
        connection, query = self._connected()
        profiles, jobs, clients = (_encodable_ids(connection, ids) for ids in (profile_ids, job_ids, client_ids))
        parameters = (profiles, since, until, jobs, clients)
        with connection.cursor() as cursor:
            if connection.is_pooled:
                cursor.execute(_in_one_transaction(cursor, connection, query.statement, parameters))
            else:
                cursor.execute("EXECUTE point_lookup (%s, %s, %s, %s, %s)", parameters)
            profile_rows, job_rows, profile_history, client_history, shape = orjson.loads(cursor.fetchone()[0])
        if shape != query.shape:
            raise _TablesChangedError
        return LookupResult(
            _by_id(profile_rows, _PROFILE, profiles),
            _by_id(job_rows, _JOB, jobs),
            _history_columns(profile_history),
            _history_columns(client_history),
        )

    def _connected(self) -> tuple[Connection, _Query]:
        """This thread's connection, with the statement prepared on it where it is ours alone."""
        known: tuple[Connection, _Query] | None = getattr(self._local, "connected", None)
        if known is not None and known[0] in self._connections:
            return known
        connection = connect(
            self._url,
            silence=self._seconds + _GRACE,
            defaults={**_DEFAULTS, "statement_timeout": f"{1000 * self._seconds:.0f}"},
        )
        with self._lock:
            self._connections.add(connection)
        with connection.cursor() as cursor:
            query = self._query = self._query or _build_query(cursor, connection)
            if not connection.is_pooled:
                cursor.execute(f"PREPARE point_lookup (text[], timestamptz, timestamptz, text[], text[]) AS {query.statement}")
        self._local.connected = connection, query
        return connection, query

    def _drop_all(self) -> None:
        """No connection is used again: the others would fail as one of them did. The statement is written anew."""
        with self._lock:
            self._query = None
            self._local.__dict__.pop("connected", None)
            self._connections.clear()  # other threads' connections are closed when these let go of them


def _build_query(cursor: Any, connection: Connection) -> _Query:
    """The statement for the tables that there are now."""
    cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    cursor.execute(_session_settings(connection))
    cursor.execute(f"SELECT {_SHAPE}")
    shape = cursor.fetchone()[0]
    queries = Queries(contract_columns(cursor), Cadence.WEEKLY)
    cursor.execute("COMMIT")
    return _Query(_statement(queries), shape)


def _session_settings(connection: Connection) -> str:
    return set_config({**connection.options, **REQUIRED_PARAMETERS}, local=True)


def _in_one_transaction(cursor: Any, connection: Connection, statement: str, parameters: tuple[Any, ...]) -> bytes:
    """All in one message, which is one transaction: nothing of it stays behind on a session that is lent to others."""
    values = [cursor.mogrify("%s", (value,)).decode() for value in parameters]
    types = ("text[]", "timestamptz", "timestamptz", "text[]", "text[]")
    query = _PLACEHOLDER.sub(lambda match: f"({values[int(match[1]) - 1]})::{types[int(match[1]) - 1]}", statement)
    return f"SET TRANSACTION READ ONLY; {_session_settings(connection)}; {query}".encode()


def _encodable_ids(connection: Any, ids: Sequence[str]) -> list[str]:
    """The ids that the encoding of this database can hold: with any other it would refuse the whole statement."""
    name = connection.get_parameter_status("server_encoding")
    encoding = "utf-8" if name == "SQL_ASCII" else psycopg2.extensions.encodings[name]
    return [each for each in ids if "\0" not in each and _is_encodable(each, encoding)]


def _is_encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _statement(queries: Queries) -> str:
    """One row with one JSON text: rows of profiles, rows of jobs, history of profiles, history of clients."""
    parts = [
        _rows(queries.rows_by_id("profiles", _PROFILE), _PROFILE.append(_ID_POSITION)),
        _rows(queries.rows_by_id("jobs", _JOB, "$4"), _JOB.append(_ID_POSITION)),
    ]
    bids = {"profile_bids": queries.bids_of_profiles()}
    if queries.jobs_have_clients():
        bids["client_bids"] = queries.bids_of_clients()
    tables = ", ".join(
        f"{name} AS MATERIALIZED (SELECT q.*, row_number() OVER () - 1 AS index FROM ({query}) q)"
        for name, query in bids.items()
    )
    parts += [_columns(queries, name) if name in bids else "NULL::json" for name in ("profile_bids", "client_bids")]
    return f"WITH {tables} SELECT json_build_array({', '.join(parts)}, {_SHAPE})::text"


def _rows(query: str, columns: pa.Schema) -> str:
    """The rows of a query as a JSON list of lists, NULL where there is none; times as microseconds."""
    values = ", ".join(micros(f"q.{field.name}") if field.type == TIME else f"q.{field.name}" for field in columns)
    names = ", ".join(columns.names)
    return f"(SELECT json_agg(json_build_array({values})) FROM ({query}) q({names}))"


def _columns(queries: Queries, bids: str) -> str:
    """The columns of `HistoryColumns` as a JSON list of lists, each NULL where there is no row."""
    submitted_at, known_at = micros(queries.bids.moment), micros(queries.outcomes.moment)
    return f"""json_build_array(
        (SELECT array_agg(b.owner ORDER BY b.index) FROM {bids} b),
        (SELECT array_agg({submitted_at} ORDER BY b.index) FROM {bids} b),
        (SELECT json_build_array(array_agg(o.id::text), array_agg(b.index), array_agg({queries.result()}),
                                 array_agg({known_at}))
         FROM {queries.outcomes_of(bids)}))"""


def _history_columns(columns: list[list[Any] | None] | None) -> HistoryColumns:
    if columns is None:  # no jobs of this database have clients
        return HistoryColumns([], [], [], [], [], [])
    owners, submitted_at, outcome_ids = columns
    return HistoryColumns(owners or [], submitted_at or [], *(column or [] for column in outcome_ids or ()))


def _by_id(rows: list[list[Any]] | None, schema: pa.Schema, ids: list[str]) -> dict[str, RowDict]:
    rows_by_id = {}
    for *values, position in rows or ():
        row = dict(zip(schema.names, values, strict=True))
        for field in schema:
            if field.type == TEXTS:
                row[field.name], _ = read_text_list(row[field.name])
        rows_by_id[ids[position - 1]] = row
    return rows_by_id
