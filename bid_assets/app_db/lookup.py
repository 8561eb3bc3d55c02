"""Looks up a few profiles and jobs, and the recent bids and outcomes of these profiles and clients, in a few milliseconds.

Which rows are valid, and how columns are cast, is asked of `queries.py`, as by the reader of whole windows. One statement asks for
everything, so that the service waits once; its answer is one JSON text, which costs less than the rows of six statements would.
It is prepared once on each connection; each thread has a connection of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import psycopg2
import psycopg2.extensions
import pyarrow as pa

from bid_assets.app_db.contract import RAW_JOBS, RAW_PROFILES, TEXTS, TIME
from bid_assets.app_db.database import DatabaseUnreachable
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.json_values import read_text_list
from bid_assets.app_db.queries import Queries
from bid_assets.app_db.values import micros
from bid_assets.windows import Cadence

_PROFILE, _JOB = (schema.remove(schema.get_field_index("window")) for schema in (RAW_PROFILES, RAW_JOBS))
_ASKED = pa.field("asked", pa.int64())
# Planned once for a connection: planning takes longer than reading what few bids a profile has.
_SESSION = "-c timezone=UTC -c plan_cache_mode=force_generic_plan -c jit=off"


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


class Lookup:
    """Looks up in the application's database at a libpq URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = threading.local()
        self._statement = ""
        self._opened: list[Any] = []
        self._lock = threading.Lock()

    def find(
        self,
        profile_ids: Sequence[str],
        job_ids: Sequence[str],
        since: datetime,
        until: datetime,
        client_ids: Sequence[str] = (),
    ) -> Found:
        """What there is of these profiles and jobs; bids of the profiles submitted in [since, until), and all their outcomes.

        The same of all bids on jobs of the clients: those of these jobs, and those named. Raises `DatabaseUnreachable`, and
        `ContractError` where the tables are not what they must be.
        """
        try:
            return self._find(profile_ids, job_ids, since, until, client_ids)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self._drop()  # the server may have been started anew since
        try:
            return self._find(profile_ids, job_ids, since, until, client_ids)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self._drop()
            raise DatabaseUnreachable(f"the application's database does not answer: {str(error).strip()}") from None

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()

    def _find(
        self,
        profile_ids: Sequence[str],
        job_ids: Sequence[str],
        since: datetime,
        until: datetime,
        client_ids: Sequence[str],
    ) -> Found:
        cursor = self._cursor()
        profiles, jobs, clients = (_storable(cursor.connection, ids) for ids in (profile_ids, job_ids, client_ids))
        cursor.execute("EXECUTE find (%s, %s, %s, %s, %s)", (profiles, since, until, jobs, clients))
        named, posted, theirs, of_clients = orjson.loads(cursor.fetchone()[0])
        return Found(_by_id(named, _PROFILE, profiles), _by_id(posted, _JOB, jobs), _records(theirs), _records(of_clients))

    def _cursor(self) -> Any:
        if not hasattr(self._local, "cursor"):
            connection = psycopg2.connect(self._url, options=_SESSION)
            connection.set_session(readonly=True, autocommit=True)
            with self._lock:
                self._opened.append(connection)
            self._local.connection, self._local.cursor = connection, connection.cursor()
            self._prepare(self._local.cursor)
        return self._local.cursor

    def _prepare(self, cursor: Any) -> None:
        if not self._statement:
            self._statement = _statement(Queries(contract_columns(cursor), Cadence.WEEKLY))
        cursor.execute(f"PREPARE find (text[], timestamptz, timestamptz, text[], text[]) AS {self._statement}")

    def _drop(self) -> None:
        connection = self._local.__dict__.pop("connection", None)
        self._local.__dict__.pop("cursor", None)
        if connection is not None:
            connection.close()
            with self._lock:
                self._opened = [one for one in self._opened if one is not connection]


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
    return f"WITH {tables} SELECT json_build_array({', '.join(parts)})::text"


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
