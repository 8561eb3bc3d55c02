"""Following new rows: which windows have rows that were not there a moment ago, at a cost that does not grow with the tables.

The cursor names a moment for each followed table and, for the rows from that moment on, their number and an order-free hash
by window. The moment trails the newest row by an overlap, so that a row committed late, or with the time of another one,
changes a hash. What is dated back further than the overlap is found by `fingerprints.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from bid_assets.app_db.introspection import contract_shapes
from bid_assets.app_db.sql import Queries, RowSource
from bid_assets.app_db.sql_values import USABLE_TIMES, literal, within
from bid_assets.common.windows import Cadence

FOLLOWED = {"bid_outcomes": "outcome_timestamp", "bids": "submitted_at"}
"""Table -> the column whose index the following rests on."""

_MEANT = {
    "bid_outcomes": ("id", "bid_id", "is_success", "outcome_timestamp"),
    "bids": ("id", "profile_id", "job_id", "submitted_at"),
}

_CREATE_INDEX = {"r": "CREATE INDEX CONCURRENTLY", "m": "CREATE INDEX CONCURRENTLY", "p": "CREATE INDEX"}
"""By the kind of relation: on a partitioned table an index cannot be created concurrently, on a view not at all."""

Seen = dict[str, list[Any]]
"""Window -> [rows, hash]."""


@dataclass(frozen=True)
class Cursor:
    """Where the following stands: table -> a moment (ISO), and what was seen from it on."""

    since: Mapping[str, str]
    seen: Mapping[str, Seen]

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> Cursor:
        """The cursor of `to_json`. Raises `ValueError` for anything else."""
        try:
            return cls(**orjson.loads(text))
        except TypeError as error:
            raise ValueError(f"this is no cursor of new rows: {error}") from None


@dataclass(frozen=True)
class Arrivals:
    """Table -> windows whose rows are others than the cursor has seen, and the cursor to go on with."""

    touched: dict[str, set[str]]
    cursor: Cursor


def look(asking: Any, cursor: Cursor | None, cadence: Cadence, overlap: timedelta, now: datetime) -> Arrivals:
    """What is new since `cursor`; without one, only the cursor to begin with. `asking`: a cursor of `connections.snapshot`.

    Both answers come from one snapshot, so that no row falls between this look and the next. A row from the future is seen
    like any other, but the cursor does not run ahead of `now`. Raises `ContractError`.
    """
    touched: dict[str, set[str]] = {}
    since: dict[str, str] = {}
    seen: dict[str, Seen] = {}
    queries = Queries(contract_shapes(asking), cadence)
    for table, source in (("bid_outcomes", queries.outcomes), ("bids", queries.bids)):
        newest = _newest(asking, source, now)
        since[table] = (newest - overlap if newest else USABLE_TIMES.start).isoformat()
        seen[table] = _seen(asking, source, since[table], cadence)
        if cursor is not None:
            same_moment = cursor.since[table] == since[table]
            present = seen[table] if same_moment else _seen(asking, source, cursor.since[table], cadence)
            before = cursor.seen[table]
            changed = {key for key in {*present, *before} if present.get(key) != before.get(key)}
            if changed:
                touched[table] = changed
    return Arrivals(touched, Cursor(since, seen))


def missing_indexes(asking: Any) -> list[str]:
    """The statements that create the indexes without which a look reads whole tables; none where they are there.

    None for a view or a foreign table either: what lies behind it is the application's.
    """
    statements = []
    for table, column in FOLLOWED.items():
        asking.execute(f"SELECT relkind::text FROM pg_class WHERE oid = to_regclass('{table}')")
        create = _CREATE_INDEX.get(next((kind for (kind,) in asking.fetchall()), ""))
        if create is None:
            continue
        asking.execute(
            "SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
            f"WHERE i.indrelid = to_regclass('{table}') AND i.indisvalid AND i.indpred IS NULL AND a.attname = '{column}'"
        )
        if not asking.fetchone()[0]:
            statements.append(f"{create} ON {table} ({column})")
    return statements


def _seen(cursor: Any, source: RowSource, since: str, cadence: Cadence) -> Seen:
    columns = ", ".join(f"{source.row}.{name}" for name in _MEANT[source.table])
    moment = datetime.fromisoformat(since)
    cursor.execute(
        f"SELECT floor(extract(epoch FROM {source.moment}) / 86400)::bigint, count(*), "
        f"sum(hash_record_extended(row({columns}), 0))::text "
        f"FROM {source.table} {source.row} WHERE {source.time} >= {literal(moment)} AND {within(source.time, USABLE_TIMES)} GROUP BY 1"
    )
    seen: dict[str, list[int]] = {}
    for day, rows, total in cursor.fetchall():
        entry = seen.setdefault(cadence.key(datetime.fromtimestamp(day * 86_400, tz=moment.tzinfo)), [0, 0])
        entry[0] += rows
        entry[1] += int(total)
    return {key: [rows, str(total)] for key, (rows, total) in seen.items()}


def _newest(cursor: Any, source: RowSource, now: datetime) -> datetime | None:
    """The newest time that is not in the future."""
    cursor.execute(
        f"SELECT max({source.moment}) FROM {source.table} {source.row} "
        f"WHERE {within(source.time, USABLE_TIMES)} AND {source.time} <= {literal(now)}"
    )
    (newest,) = cursor.fetchone()
    return newest if newest is None else newest.astimezone(now.tzinfo)
