"""Looks up a few profiles and jobs, and the recent bids and outcomes of these profiles and clients, in a few milliseconds.

Which rows are valid, and how columns are cast, is asked of `sql.py`, as by the reader of whole windows. One statement asks for
everything, so that the service waits once; its answer is one JSON text, which costs less than the rows of six statements would.
It is prepared once on each connection, unless a pooler lends the connection to others; each thread has a connection of its own.
It says itself whether the tables are still those that it was written for.
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
    REQUIRED,
    Connection,
    DatabaseRefusalError,
    connect,
    explained,
    setting,
)
from bid_assets.app_db.contract import RAW_JOBS, RAW_PROFILES, REQUIRED_COLUMNS, TEXTS, TIME, ContractError
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.json_values import read_text_list
from bid_assets.app_db.sql import Queries
from bid_assets.app_db.sql_values import micros
from bid_assets.common.windows import Cadence

_PROFILE, _JOB = (schema.remove(schema.get_field_index("window")) for schema in (RAW_PROFILES, RAW_JOBS))
_ASKED = pa.field("asked", pa.int64())
# Planned once for a connection: planning takes longer than reading what few bids a profile has.
_DEFAULTS = {"plan_cache_mode": "force_generic_plan", "jit": "off", "default_transaction_read_only": "on"}
_GRACE = 0.5
"""Seconds for the server to say itself that time has run out."""

_PLACEHOLDER = re.compile(r"\$([1-5])\b")
_SHAPE = f"""(SELECT md5(string_agg(concat_ws(' ', a.attrelid, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY a.attrelid, a.attnum))
    FROM pg_attribute a WHERE a.attrelid IN ({", ".join(f"to_regclass('{table}')" for table in REQUIRED_COLUMNS)})
    AND a.attnum > 0 AND NOT a.attisdropped)"""
"""Which tables these are, and which columns of which types they have."""


Row = dict[str, Any]
"""A row by the columns of its schema, but for the window; times in microseconds."""


@dataclass(frozen=True)
class Records:
    """Bids of some owners (profiles, or clients whose jobs they are on) and their outcomes, column by column."""

    owners: list[str]
    """Of each bid."""
    submitted: list[int]
    """When each bid was; microseconds."""
    outcomes: list[str]
    """The id of each outcome."""
    bids: list[int]
    """Which bid it is of, counted from 0."""
    successes: list[bool]
    known: list[int]
    """Since when; microseconds."""


@dataclass(frozen=True)
class Found:
    """Profiles and jobs by the id as it was asked for; records of the profiles, and of the clients."""

    profiles: dict[str, Row]
    jobs: dict[str, Row]
    of_profiles: Records
    of_clients: Records


@dataclass(frozen=True)
class _Query:
    """The statement for the tables as they are, and their shape."""

    statement: str
    shape: str


class _TablesChangedError(Exception):
    """The tables are no longer those that the statement was written for."""


class Lookup:
    """Looks up in the application's database at a libpq URL. Threads may share it."""

    def __init__(self, url: str, *, seconds: float = 3) -> None:
        """`seconds`: how long the database may take to answer, each of two times."""
        self._url, self._seconds = url, seconds
        self._local = threading.local()
        self._query: _Query | None = None
        self._opened: set[Connection] = set()
        self._lock = threading.Lock()
        self.failure: str | None = "nothing has been looked up yet"
        """Why the last look-up failed; None where it did not."""

    def find(
        self,
        profile_ids: Sequence[str],
        job_ids: Sequence[str],
        since: datetime,
        until: datetime,
        client_ids: Sequence[str] = (),
    ) -> Found:
        """What there is of these profiles and jobs; bids of the profiles submitted in [since, until), and all their outcomes.

        The same of all bids on jobs of the clients: those of these jobs, and those named. Raises `DatabaseUnreachableError`,
        `DatabaseRefusalError`, and `ContractError` where the tables are not what they must be.
        """
        try:
            found = self._find_or_explain(profile_ids, job_ids, since, until, client_ids)
        except DATABASE_ERRORS as error:
            self.failure = str(error)
            raise
        self.failure = None
        return found

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()

    def _find_or_explain(self, *asked: Any) -> Found:
        """One more attempt where a new connection or a new statement may help: a server started anew, tables that changed."""
        for attempts_left in (1, 0):
            try:
                return self._find(*asked)
            except (psycopg2.Error, _TablesChangedError) as error:
                self._drop_all()
                what = self._explained(error)
                if not attempts_left or isinstance(what, DatabaseRefusalError):
                    raise what from None
            except (UnicodeDecodeError, orjson.JSONDecodeError) as error:
                raise DatabaseRefusalError(f"the application's database holds text that is not UTF-8: {error}") from None
        raise AssertionError("unreachable")

    def _explained(self, error: Exception) -> Exception:
        if isinstance(error, _TablesChangedError):
            return ContractError("the tables of the application's database are being changed")
        return explained(self._url, error)

    def _find(
        self,
        profile_ids: Sequence[str],
        job_ids: Sequence[str],
        since: datetime,
        until: datetime,
        client_ids: Sequence[str],
    ) -> Found:
        connection, query = self._connected()
        profiles, jobs, clients = (_storable(connection, ids) for ids in (profile_ids, job_ids, client_ids))
        parameters = (profiles, since, until, jobs, clients)
        with connection.cursor() as cursor:
            if connection.pooled:
                cursor.execute(_in_one_transaction(cursor, connection, query.statement, parameters))
            else:
                cursor.execute("EXECUTE find (%s, %s, %s, %s, %s)", parameters)
            named, posted, theirs, of_clients, shape = orjson.loads(cursor.fetchone()[0])
        if shape != query.shape:
            raise _TablesChangedError
        return Found(_by_id(named, _PROFILE, profiles), _by_id(posted, _JOB, jobs), _records(theirs), _records(of_clients))

    def _connected(self) -> tuple[Connection, _Query]:
        """This thread's connection, with the statement prepared on it where it is ours alone."""
        known: tuple[Connection, _Query] | None = getattr(self._local, "connected", None)
        if known is not None and known[0] in self._opened:
            return known
        connection = connect(
            self._url,
            silence=self._seconds + _GRACE,
            defaults={**_DEFAULTS, "statement_timeout": f"{1000 * self._seconds:.0f}"},
        )
        with self._lock:
            self._opened.add(connection)
        with connection.cursor() as cursor:
            query = self._query = self._query or _query(cursor, connection)
            if not connection.pooled:
                cursor.execute(f"PREPARE find (text[], timestamptz, timestamptz, text[], text[]) AS {query.statement}")
        self._local.connected = connection, query
        return connection, query

    def _drop_all(self) -> None:
        """No connection is used again: what one of them has met, the others would. The statement is written anew."""
        with self._lock:
            self._query = None
            self._local.__dict__.pop("connected", None)
            self._opened.clear()  # other threads' connections are closed when these let go of them


def _query(cursor: Any, connection: Connection) -> _Query:
    """The statement for the tables that there are now."""
    cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    cursor.execute(_in_force(connection))
    cursor.execute(f"SELECT {_SHAPE}")
    shape = cursor.fetchone()[0]
    queries = Queries(contract_columns(cursor), Cadence.WEEKLY)
    cursor.execute("COMMIT")
    return _Query(_statement(queries), shape)


def _in_force(connection: Connection) -> str:
    return setting({**connection.options, **REQUIRED}, local=True)


def _in_one_transaction(cursor: Any, connection: Connection, statement: str, parameters: tuple[Any, ...]) -> bytes:
    """All in one message, which is one transaction: nothing of it stays behind on a session that is lent to others."""
    values = [cursor.mogrify("%s", (value,)).decode() for value in parameters]
    types = ("text[]", "timestamptz", "timestamptz", "text[]", "text[]")
    written = _PLACEHOLDER.sub(lambda match: f"({values[int(match[1]) - 1]})::{types[int(match[1]) - 1]}", statement)
    return f"SET TRANSACTION READ ONLY; {_in_force(connection)}; {written}".encode()


def _storable(connection: Any, ids: Sequence[str]) -> list[str]:
    """The ids that a text of this database can hold: it would refuse to read any others, and so the whole question."""
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
    """One row with one JSON text: rows of profiles, rows of jobs, records of profiles, records of clients."""
    parts = [
        _rows(queries.rows_by_id("profiles", _PROFILE), _PROFILE.append(_ASKED)),
        _rows(queries.rows_by_id("jobs", _JOB, "$4"), _JOB.append(_ASKED)),
    ]
    named = {"of_profiles": queries.bids_of_profiles()}
    if queries.jobs_have_clients():
        named["of_clients"] = queries.bids_of_clients()
    tables = ", ".join(
        f"{name} AS MATERIALIZED (SELECT q.*, row_number() OVER () - 1 AS place FROM ({bids}) q)"
        for name, bids in named.items()
    )
    parts += [_columns(queries, name) if name in named else "NULL::json" for name in ("of_profiles", "of_clients")]
    return f"WITH {tables} SELECT json_build_array({', '.join(parts)}, {_SHAPE})::text"


def _rows(query: str, columns: pa.Schema) -> str:
    """The rows of a query as a JSON list of lists, NULL where there is none; times as microseconds."""
    values = ", ".join(micros(f"q.{field.name}") if field.type == TIME else f"q.{field.name}" for field in columns)
    names = ", ".join(columns.names)
    return f"(SELECT json_agg(json_build_array({values})) FROM ({query}) q({names}))"


def _columns(queries: Queries, bids: str) -> str:
    """The columns of `Records` as a JSON list of lists, each NULL where there is no row."""
    submitted, known = micros(queries.bids.moment), micros(queries.outcomes.moment)
    return f"""json_build_array(
        (SELECT array_agg(b.owner ORDER BY b.place) FROM {bids} b), (SELECT array_agg({submitted} ORDER BY b.place) FROM {bids} b),
        (SELECT json_build_array(array_agg(o.id::text), array_agg(b.place), array_agg({queries.result()}), array_agg({known}))
         FROM {queries.outcomes_of(bids)}))"""


def _records(columns: list[list[Any] | None] | None) -> Records:
    if columns is None:  # no jobs of this database have clients
        return Records([], [], [], [], [], [])
    owners, submitted, outcomes = columns
    return Records(owners or [], submitted or [], *(column or [] for column in outcomes or ()))


def _by_id(rows: list[list[Any]] | None, schema: pa.Schema, ids: list[str]) -> dict[str, Row]:
    found = {}
    for *values, asked in rows or ():
        row = dict(zip(schema.names, values, strict=True))
        for field in schema:
            if field.type == TEXTS:
                row[field.name], _ = read_text_list(row[field.name])
        found[ids[asked - 1]] = row
    return found
