"""Where the rows of the application's tables lie in time: the oldest valid bid, and what no window holds. Over any DB-API cursor.

A valid outcome is never older than its bid, so the oldest valid bid is where history begins. A rejected row is no history:
one with an odd date would put years of empty windows before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bid_assets.app_db.queries import Queries
from bid_assets.windows import TimeRange


@dataclass(frozen=True)
class RowsOutside:
    """How many rows of a table lie before and after a range of time."""

    table: str
    before: int
    after: int


def oldest_valid_bid(cursor: Any, queries: Queries) -> datetime | None:
    """When the oldest bid was submitted that is not rejected; None where there is none."""
    cursor.execute(queries.oldest_valid(queries.bids))
    rows = cursor.fetchall()
    return rows[0][0].astimezone(UTC) if rows else None


def rows_outside(cursor: Any, queries: Queries, span: TimeRange) -> list[RowsOutside]:
    """The tables of bids and outcomes that have rows outside of `span`. Rows without a usable time are not counted: they are
    rejected in the window of the newest bid."""
    counts = []
    for source in (queries.bids, queries.outcomes):
        cursor.execute(queries.rows_outside(source, span))
        before, after = cursor.fetchall()[0]
        counts.append(RowsOutside(source.table, before, after))
    return [count for count in counts if count.before or count.after]


def left_out(counts: Sequence[RowsOutside], first: str, last: str, *, start_is_set: bool) -> str:
    """In words, which rows enter no window of `first` to `last`; empty where all do."""
    why = "BID_ASSETS_START" if start_is_set else "no valid bid is older"
    before = " and ".join(f"{count.before:,} of {count.table}" for count in counts if count.before)
    after = " and ".join(f"{count.after:,} of {count.table}" for count in counts if count.after)
    parts = [f"{before} before the first window {first} ({why})"] if before else []
    parts += [f"{after} after the open window {last}, in the future"] if after else []
    return f"rows left out: {'; '.join(parts)}" if parts else ""
