"""Writing many rows into the application's tables: rows are copied aside, then merged by id, all in one transaction.

What the rows are and whether they may be written has been decided before; see `importer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bid_assets.app_db.introspection import Columns

Progress = Callable[[str, int, int], None]
"""Told (table, rows done, rows in total)."""

_SLICE_ROWS = 20_000


@dataclass(frozen=True)
class Written:
    """What became of the rows of one table."""

    inserted: int
    updated: int
    unchanged: int


def merge(cursor: Any, table: str, rows: pa.Table, types: Columns, progress: Progress) -> Written:
    """Insert the rows that are new by id and update those that differ in any column of `rows`; does not commit.

    `types` are the types of the table's columns, to which the values are cast; `progress` is told of every slice that is copied.
    """
    staging = f"import_{table}"
    progress(table, 0, rows.num_rows)
    for start in range(0, max(rows.num_rows, 1), _SLICE_ROWS):
        part = rows.slice(start, _SLICE_ROWS)
        cursor.adbc_ingest(staging, part, mode="append" if start else "create", temporary=True)
        progress(table, start + part.num_rows, rows.num_rows)
    cursor.execute(_merge_query(table, staging, {name: types[name].type for name in rows.column_names}))
    inserted, updated = cursor.fetchone()
    return Written(inserted, updated, rows.num_rows - inserted - updated)


def _merge_query(table: str, staging: str, types: Mapping[str, str]) -> str:
    names = ", ".join(types)
    values = ", ".join(f"s.{name}::{sql_type}" for name, sql_type in types.items())
    others = [name for name in types if name != "id"]
    action = "NOTHING"
    if others:
        changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in others)
        old, new = (", ".join(f"{row}.{_comparable(name, types)}" for name in others) for row in ("t", "EXCLUDED"))
        action = f"UPDATE SET {changes} WHERE ({old}) IS DISTINCT FROM ({new})"
    return (
        f"WITH written AS (INSERT INTO {table} AS t ({names}) SELECT {values} FROM {staging} s"
        f" ON CONFLICT (id) DO {action} RETURNING (xmax = 0) AS is_new)"
        " SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM written"
    )


def _comparable(name: str, types: Mapping[str, str]) -> str:
    """PostgreSQL cannot compare `json` with `json`."""
    return f"{name}::text" if types[name] == "json" else name
