"""Small raw tables for tests, from plain tuples; times in hours after a start, so that collisions are common."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from bid_assets.app_db import contract

START = datetime(2026, 1, 5, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def bids_table(rows: Sequence[tuple[str, str, float]], **columns: list[object]) -> pa.Table:
    """Bids from (id, profile, hour); other columns by name."""
    known: dict[str, list[object]] = {
        "id": [row[0] for row in rows],
        "profile_id": [row[1] for row in rows],
        "job_id": ["j"] * len(rows),
        "submitted_at": [at(row[2]) for row in rows],
        **columns,
    }
    return _table(known, len(rows), contract.RAW_BIDS)


def outcomes_table(rows: Sequence[tuple[str, str, bool, float]]) -> pa.Table:
    """Outcomes from (id, bid, success, hour)."""
    known: dict[str, list[object]] = {
        "id": [row[0] for row in rows],
        "bid_id": [row[1] for row in rows],
        "is_success": [row[2] for row in rows],
        "outcome_timestamp": [at(row[3]) for row in rows],
    }
    return _table(known, len(rows), contract.RAW_BID_OUTCOMES)


def table_of(schema: pa.Schema, rows: Sequence[dict[str, object]]) -> pa.Table:
    """A table of the contract from dictionaries; what is not named is missing."""
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def _table(columns: dict[str, list[object]], rows: int, schema: pa.Schema) -> pa.Table:
    return pa.table({name: columns.get(name, [None] * rows) for name in schema.names}, schema=schema)
