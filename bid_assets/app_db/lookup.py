"""Looks up a few profiles and jobs, and the recent bids and outcomes of these profiles and clients, in a few milliseconds.

Which rows are valid, and how columns are cast, is asked of `queries.py`, as by the reader of whole windows. Statements are prepared
once on each connection; each thread has a connection of its own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
import psycopg2.extensions
import pyarrow as pa

from bid_assets.app_db.contract import RAW_JOBS, RAW_PROFILES, TEXTS
from bid_assets.app_db.database import DatabaseUnreachable
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.json_columns import text_lists
from bid_assets.app_db.queries import Queries
from bid_assets.windows import Cadence

_LOOKS_LIKE = {
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}"),
    "integer": re.compile(r"-?\d{1,18}"),
}


@dataclass(frozen=True)
class Found:
    """Rows by kind. `profiles` and `jobs` without window, with `asked`: the id as it was asked for."""

    profiles: pa.Table
    jobs: pa.Table
    bids: list[tuple[str, str, int]]
    """id, profile_id, submitted at (microseconds)."""
    outcomes: list[tuple[str, str, str, bool, int]]
    """id, bid_id, profile_id, is_success, known at (microseconds)."""
    client_bids: list[tuple[str, str, int]]
    """The same of the bids on the clients' jobs, with client_id in place of profile_id."""
    client_outcomes: list[tuple[str, str, str, bool, int]]


class Lookup:
    """Looks up in the application's database at a libpq URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = threading.local()
        self._schemas = {
            "profiles": RAW_PROFILES.remove(RAW_PROFILES.get_field_index("window")),
            "jobs": RAW_JOBS.remove(RAW_JOBS.get_field_index("window")),
        }
        self._statements: dict[str, str] = {}
        self._kin: dict[str, str] = {}
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

        The same of all bids on jobs of the clients: those of these jobs, and those named. Raises `DatabaseUnreachable`, and `ContractError` where the tables are not what they must be.
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
        profiles = self._possible("profiles", profile_ids)
        jobs = self._named(cursor, "jobs", self._possible("jobs", job_ids))
        clients = self._possible("clients", sorted({*client_ids, *jobs["client_id"].drop_null().to_pylist()}))

        def recent(what: str, owners: list[str]) -> list[Any]:
            return _rows(cursor, f"EXECUTE {what} (%s, %s, %s)", owners, since, until) if owners else []

        return Found(
            self._named(cursor, "profiles", profiles),
            jobs,
            recent("bids", profiles),
            recent("outcomes", profiles),
            recent("client_bids", clients),
            recent("client_outcomes", clients),
        )

    def _possible(self, table: str, ids: Sequence[str]) -> list[str]:
        """The ids that the column could hold at all: a cast of others would fail. Clients only where jobs have any."""
        if table not in self._kin:
            return []
        pattern = _LOOKS_LIKE.get(self._kin[table])
        return [name for name in ids if "\0" not in name and (pattern is None or pattern.fullmatch(name))]

    def _named(self, cursor: Any, table: str, ids: list[str]) -> pa.Table:
        schema = self._schemas[table]
        rows = _rows(cursor, f"EXECUTE {table} (%s)", ids) if ids else []
        columns: list[Any] = []
        for number, field in enumerate(schema):
            values = [row[number] for row in rows]
            if field.type == TEXTS:
                columns.append(text_lists(pa.chunked_array([pa.array(values, pa.string())])))
            else:
                columns.append(pa.array(values, field.type))
        asked = pa.array([ids[row[-1] - 1] for row in rows], pa.string())
        return pa.table([*columns, asked], schema=schema.append(pa.field("asked", pa.string())))

    def _cursor(self) -> Any:
        if not hasattr(self._local, "cursor"):
            # Planned each time (0.1 ms), for these profiles and this span: a plan for any would read all recent bids of everybody.
            connection = psycopg2.connect(self._url, options="-c timezone=UTC -c plan_cache_mode=force_custom_plan")
            connection.set_session(readonly=True, autocommit=True)
            with self._lock:
                self._opened.append(connection)
            self._local.connection, self._local.cursor = connection, connection.cursor()
            self._prepare(self._local.cursor)
        return self._local.cursor

    def _prepare(self, cursor: Any) -> None:
        if not self._statements:
            queries = Queries(contract_columns(cursor), Cadence.WEEKLY)
            self._kin = {table: queries.kin_of_id(table) for table in ("profiles", "jobs")}
            self._statements = {
                "profiles (text[])": queries.rows_by_id("profiles", "profile_id", self._schemas["profiles"]),
                "jobs (text[])": queries.rows_by_id("jobs", "job_id", self._schemas["jobs"]),
                "bids (text[], timestamptz, timestamptz)": queries.bids_of_profiles(),
                "outcomes (text[], timestamptz, timestamptz)": queries.outcomes_of_profiles(),
            }
            if queries.jobs_have_clients():
                self._kin["clients"] = queries.kin_of("jobs", "client_id")
                self._statements |= {
                    "client_bids (text[], timestamptz, timestamptz)": queries.bids_of_clients(),
                    "client_outcomes (text[], timestamptz, timestamptz)": queries.outcomes_of_clients(),
                }
        for head, query in self._statements.items():
            cursor.execute(f"PREPARE {head} AS {query}")

    def _drop(self) -> None:
        connection = self._local.__dict__.pop("connection", None)
        self._local.__dict__.pop("cursor", None)
        if connection is not None:
            connection.close()
            with self._lock:
                self._opened = [one for one in self._opened if one is not connection]


def _rows(cursor: Any, statement: str, *values: Any) -> list[Any]:
    cursor.execute(statement, values)
    found: list[Any] = cursor.fetchall()
    return found
