"""Upsert of staged rows into the application's tables by id, all in one transaction.

It works for whatever the application made of a table: partitions, identity columns, a view that can be written. What the rows
are is decided before; see `importer.py` and `staging.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bid_assets.app_db.importing.staging import RefusedRow, StagingTable, find_refusals, run_in_savepoint
from bid_assets.app_db.introspection import Column
from bid_assets.app_db.sql_ids import references_row

_COMPARED_AS_TEXT = {"json", "xml", "citext"}
"""Types that PostgreSQL cannot compare, or calls equal where something has changed."""


@dataclass(frozen=True)
class UpsertCounts:
    """How many rows of one table were inserted, updated and left as they were."""

    inserted: int
    updated: int
    unchanged: int


def upsert(cursor: Any, stage: StagingTable) -> UpsertCounts | list[RefusedRow]:
    """Insert the staged rows that are new by id and update those that differ in any of their columns; does not commit.

    Where the database refuses rows (a constraint, a trigger), returns these rows; nothing is written then.
    """
    total = stage.rows.num_rows
    counts: list[tuple[int, int]] = []
    if run_in_savepoint(cursor, lambda: counts.append(_upsert_range(cursor, stage, 0, total))) is not None:
        return find_refusals(cursor, lambda start, end: _upsert_range(cursor, stage, start, end), total)
    ((inserted, updated),) = counts
    _advance_sequence(cursor, stage)
    return UpsertCounts(inserted, updated, total - inserted - updated)


def _upsert_range(cursor: Any, stage: StagingTable, start: int, end: int) -> tuple[int, int]:
    """How many rows were inserted and updated. Not by ON CONFLICT: views and tables without a unique index know none."""
    names = stage.rows.column_names
    others = [name for name in names if name != "id"]
    same = references_row("t.id", stage.columns["id"], "s.id", stage.columns["id"])
    part = f"s.import_row >= {start} AND s.import_row < {end}"
    updated = 0
    if others:
        changes = ", ".join(f"{name} = s.{name}" for name in others)
        old, new = (", ".join(_comparable(f"{row}.{name}", stage.columns[name]) for name in others) for row in ("t", "s"))
        updated = _count(
            cursor,
            f"UPDATE {stage.table} t SET {changes} FROM {stage.name} s"
            f" WHERE {same} AND {part} AND ({old}) IS DISTINCT FROM ({new}) RETURNING 1",
        )
    inserted = _count(
        cursor,
        f"INSERT INTO {stage.table} ({', '.join(names)}) OVERRIDING SYSTEM VALUE"
        f" SELECT {', '.join(f's.{name}' for name in names)} FROM {stage.name} s"
        f" WHERE {part} AND NOT EXISTS (SELECT FROM {stage.table} t WHERE {same}) RETURNING 1",
    )
    return inserted, updated


def _count(cursor: Any, statement: str) -> int:
    cursor.execute(f"WITH done AS ({statement}) SELECT count(*) FROM done")
    return int(cursor.fetchone()[0])


def _advance_sequence(cursor: Any, stage: StagingTable) -> None:
    """The ids that the application draws next must not be those that were imported."""
    cursor.execute(f"SELECT pg_get_serial_sequence('{stage.table}', 'id')")
    (sequence,) = cursor.fetchone()
    if sequence is not None:
        cursor.execute(
            f"SELECT setval('{sequence}', max(id)) FROM {stage.table} HAVING max(id) > (SELECT last_value FROM {sequence})"
            f" AND has_sequence_privilege('{sequence}', 'UPDATE')"
        )


def _comparable(value: str, column: Column) -> str:
    is_text = column.type.rpartition(".")[2] in _COMPARED_AS_TEXT or not column.is_deterministic
    return f'{value}::text COLLATE "C"' if is_text else value
