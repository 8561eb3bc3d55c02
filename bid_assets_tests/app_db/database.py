"""Filling an application's database by hand, in whatever tables a test made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pyarrow as pa
from psycopg2 import sql

from bid_assets.app_db.connections import engine
from bid_assets.app_db.schema import create_tables
from bid_assets.app_db.snapshot_reader import Snapshot, open_snapshot
from bid_assets.common.windows import Cadence, TimeRange

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
ALL = TimeRange(MONDAY - 520 * WEEK, MONDAY + 520 * WEEK)

Row = Mapping[str, Any]


def bid(bid_id: str, when: datetime | str | None, **others: Any) -> Row:
    """A bid of profile p1 on job j1, unless told otherwise."""
    return {"id": bid_id, "profile_id": "p1", "job_id": "j1", "submitted_at": when, **others}


def outcome(outcome_id: str, bid_id: str | None, when: datetime | str | None, **others: Any) -> Row:
    """A won bid, unless told otherwise."""
    return {"id": outcome_id, "bid_id": bid_id, "is_success": True, "outcome_timestamp": when, **others}


def standard_tables(url: str) -> str:
    """The tables of `create_tables`, with profile p1 and job j1."""
    database = engine(url)
    create_tables(database)
    database.dispose()
    insert(url, "profiles", [{"id": "p1"}])
    insert(url, "jobs", [{"id": "j1"}])
    return url


def emptied_tables(url: str) -> None:
    """The standard tables anew: hypothesis runs all its examples in one database."""
    if rows(url, "SELECT to_regclass('bids')") == [(None,)]:
        standard_tables(url)
    execute(url, "TRUNCATE profiles, jobs, bids, bid_outcomes")
    insert(url, "profiles", [{"id": "p1"}])
    insert(url, "jobs", [{"id": "j1"}])


def insert(url: str, table: str, rows: Sequence[Row]) -> None:
    """Insert rows given as column -> value."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        for row in rows:
            cursor.execute(
                sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                    sql.Identifier(table),
                    sql.SQL(", ").join(map(sql.Identifier, row)),
                    sql.SQL(", ").join([sql.Placeholder()] * len(row)),
                ),
                list(row.values()),
            )


def execute(url: str, statement: str) -> None:
    """Run any SQL."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query gives, with times in UTC."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute(query)
        return cursor.fetchall()


@contextmanager
def snapshot_of(url: str, cadence: Cadence = Cadence.WEEKLY, chunk_rows: int = 250_000, **options: Any) -> Iterator[Snapshot]:
    """A snapshot, weekly by default."""
    with open_snapshot(url, cadence=cadence, chunk_rows=chunk_rows, **options) as snapshot:
        yield snapshot


def read(url: str, span: TimeRange = ALL, **options: Any) -> dict[str, pa.Table]:
    """Every stream of `span`."""
    with snapshot_of(url, **options) as snapshot:
        return snapshot.read(span)


def rejections(url: str, span: TimeRange = ALL) -> list[tuple[datetime, str, str | None, str]]:
    """The rejected rows as tuples (window, table, id, reason)."""
    return [tuple(row.values()) for row in read(url, span)["rejected_rows"].to_pylist()]
