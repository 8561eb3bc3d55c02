"""Where the rows of the application's tables lie in time: from when to when, and what no window holds. Over any DB-API cursor,
in UTC.

A valid outcome is never older than its bid, so the oldest valid bid is where history begins. A rejected row is no history:
one with an odd date would put years of empty windows before it or after it. Such a row is shown where the newest bid is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bid_assets.app_db.queries import Queries
from bid_assets.app_db.row_validation import RowSource
from bid_assets.common.windows import MICROSECOND, MONDAY, Cadence, TimeRange


@dataclass(frozen=True)
class Extent:
    """The range of time that the valid rows of a database take up; where none is valid, all that have a usable time."""

    span: TimeRange | None
    """From the first bid or outcome to just after the last one; None where there is none."""
    windows: TimeRange
    """The same, in whole windows."""
    time_for_undated_rows: datetime
    """The newest bid's time, which decides the window of rows without a time in `windows`."""


@dataclass(frozen=True)
class RowsOutside:
    """How many rows of a table lie before and after a range of time."""

    table: str
    before: int
    after: int


def extent_of(cursor: Any, queries: Queries, cadence: Cadence) -> Extent:
    """The extent of a database."""
    for query in (queries.valid_ends, queries.ends):
        bids, outcomes = (_ends(cursor, query, source) for source in (queries.bids, queries.outcomes))
        moments = [*bids, *outcomes]
        if moments:
            span = TimeRange(min(moments), max(moments) + MICROSECOND)
            windows = TimeRange(cadence.floor(span.start), cadence.floor(max(moments)) + cadence.length)
            return Extent(span, windows, max(bids or outcomes))
    return Extent(None, TimeRange(MONDAY, MONDAY), MONDAY)


def oldest_valid_bid(cursor: Any, queries: Queries) -> datetime | None:
    """When the oldest bid was submitted that is not rejected; None where there is none."""
    return min(_ends(cursor, queries.valid_ends, queries.bids), default=None)


def rows_outside(cursor: Any, queries: Queries, span: TimeRange) -> list[RowsOutside]:
    """The tables of bids and outcomes that have rows outside of `span`. Rows without a usable time are not counted: they are
    rejected in the window of the newest bid."""
    counts = []
    for source in (queries.bids, queries.outcomes):
        cursor.execute(queries.rows_outside(source, span))
        before, after = cursor.fetchall()[0]
        counts.append(RowsOutside(source.table, before, after))
    return [count for count in counts if count.before or count.after]


def describe_rows_outside(counts: Sequence[RowsOutside], first: str, last: str, *, start_is_set: bool) -> str:
    """In words, which rows enter no window of `first` to `last`; empty where all do."""
    why = "BID_ASSETS_START" if start_is_set else "no valid bid is older"
    before = " and ".join(f"{count.before:,} of {count.table}" for count in counts if count.before)
    after = " and ".join(f"{count.after:,} of {count.table}" for count in counts if count.after)
    parts = [f"{before} before the first window {first} ({why})"] if before else []
    parts += [f"{after} after the open window {last}, in the future"] if after else []
    return f"rows left out: {'; '.join(parts)}" if parts else ""


def _ends(cursor: Any, query: Callable[[RowSource], str], source: RowSource) -> list[datetime]:
    """The first and the last time of a table, in Python's UTC; none where it has no rows."""
    cursor.execute(query(source))
    return [end.astimezone(UTC) for end in cursor.fetchall()[0] if end is not None]
