"""Polling for new rows by a high-water mark: which windows have rows that the last poll did not see.

The high-water mark holds a time for each table and, for the rows from that time on, their number and an order-independent hash
by window. It trails the newest row by an overlap, so that a row committed late, or with the time of another one, changes a
hash. The cost of a poll does not grow with the tables. Rows dated back further than the overlap are detected by
`fingerprints.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from bid_assets.app_db.introspection import contract_shapes
from bid_assets.app_db.queries import Queries
from bid_assets.app_db.row_validation import RowSource
from bid_assets.app_db.sql_values import USABLE_TIMES, in_range, literal
from bid_assets.common.windows import Cadence

TIME_COLUMNS = {"bid_outcomes": "outcome_timestamp", "bids": "submitted_at"}
"""Table -> the time column whose index makes polling cheap."""

_HASHED_COLUMNS = {
    "bid_outcomes": ("id", "bid_id", "is_success", "outcome_timestamp"),
    "bids": ("id", "profile_id", "job_id", "submitted_at"),
}

_CREATE_INDEX = {"r": "CREATE INDEX CONCURRENTLY", "m": "CREATE INDEX CONCURRENTLY", "p": "CREATE INDEX"}
"""By the kind of relation: on a partitioned table an index cannot be created concurrently, on a view not at all."""

WindowHashes = dict[str, list[Any]]
"""Window -> [rows, hash]."""


@dataclass(frozen=True)
class HighWaterMark:
    """Up to where a database has been polled. Kept as the cursor of a Dagster sensor."""

    since: Mapping[str, str]
    """Table -> a time (ISO 8601)."""
    hashes: Mapping[str, WindowHashes]
    """Table -> the hashes of its rows from that time on."""

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return orjson.dumps({"since": self.since, "seen": self.hashes}).decode()

    @classmethod
    def from_json(cls, text: str) -> HighWaterMark:
        """The high-water mark of `to_json`. Raises `ValueError` for anything else."""
        try:
            value = orjson.loads(text)
            return cls(value["since"], value["seen"])
        except (TypeError, KeyError) as error:
            raise ValueError(f"this is no high-water mark of new rows: {error}") from None


@dataclass(frozen=True)
class NewRows:
    """Windows whose rows have changed since a high-water mark, and the mark for the next poll."""

    changed_windows: dict[str, set[str]]
    """Table -> windows."""
    high_water_mark: HighWaterMark


def poll_new_rows(cursor: Any, mark: HighWaterMark | None, cadence: Cadence, overlap: timedelta, now: datetime) -> NewRows:
    """What has changed since `mark`; without one, only a mark to begin with. `cursor`: a cursor of `connections.snapshot`.

    Both answers come from one snapshot, so that no row falls between this poll and the next. A row from the future counts
    like any other, but the mark does not run ahead of `now`. Raises `ContractError`.
    """
    changed_windows: dict[str, set[str]] = {}
    since: dict[str, str] = {}
    hashes: dict[str, WindowHashes] = {}
    queries = Queries(contract_shapes(cursor), cadence)
    for table, source in (("bid_outcomes", queries.outcomes), ("bids", queries.bids)):
        newest = _newest(cursor, source, now)
        since[table] = (newest - overlap if newest else USABLE_TIMES.start).isoformat()
        hashes[table] = _window_hashes(cursor, source, since[table], cadence)
        if mark is not None:
            same_time = mark.since[table] == since[table]
            present = hashes[table] if same_time else _window_hashes(cursor, source, mark.since[table], cadence)
            before = mark.hashes[table]
            changed = {key for key in {*present, *before} if present.get(key) != before.get(key)}
            if changed:
                changed_windows[table] = changed
    return NewRows(changed_windows, HighWaterMark(since, hashes))


def missing_indexes(cursor: Any) -> list[str]:
    """The statements that create the indexes without which a poll reads whole tables; none where they are there.

    None for a view or a foreign table either: what lies behind it is the application's.
    """
    statements = []
    for table, column in TIME_COLUMNS.items():
        cursor.execute(f"SELECT relkind::text FROM pg_class WHERE oid = to_regclass('{table}')")
        create = _CREATE_INDEX.get(next((kind for (kind,) in cursor.fetchall()), ""))
        if create is None:
            continue
        cursor.execute(
            "SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
            f"WHERE i.indrelid = to_regclass('{table}') AND i.indisvalid AND i.indpred IS NULL AND a.attname = '{column}'"
        )
        if not cursor.fetchone()[0]:
            statements.append(f"{create} ON {table} ({column})")
    return statements


def _window_hashes(cursor: Any, source: RowSource, since: str, cadence: Cadence) -> WindowHashes:
    columns = ", ".join(f"{source.row}.{name}" for name in _HASHED_COLUMNS[source.table])
    moment = datetime.fromisoformat(since)
    cursor.execute(
        f"SELECT floor(extract(epoch FROM {source.moment}) / 86400)::bigint, count(*), "
        f"sum(hash_record_extended(row({columns}), 0))::text "
        f"FROM {source.table} {source.row} WHERE {source.time} >= {literal(moment)} AND {in_range(source.time, USABLE_TIMES)} "
        "GROUP BY 1"
    )
    hashes: dict[str, list[int]] = {}
    for day, rows, total in cursor.fetchall():
        entry = hashes.setdefault(cadence.key(datetime.fromtimestamp(day * 86_400, tz=moment.tzinfo)), [0, 0])
        entry[0] += rows
        entry[1] += int(total)
    return {key: [rows, str(total)] for key, (rows, total) in hashes.items()}


def _newest(cursor: Any, source: RowSource, now: datetime) -> datetime | None:
    """The newest time that is not in the future."""
    cursor.execute(
        f"SELECT max({source.moment}) FROM {source.table} {source.row} "
        f"WHERE {in_range(source.time, USABLE_TIMES)} AND {source.time} <= {literal(now)}"
    )
    (newest,) = cursor.fetchone()
    return newest if newest is None else newest.astimezone(now.tzinfo)
