"""How many values of JSON columns, and times of jobs and profiles, there are, and how many of them cannot be read, by window,
column and reason.

A value that is there and unreadable is missing in every feature; only these counts tell it from one that was never there.
What is readable is decided in `json_values.py`, of times in `sql_values.py`. (A bid or an outcome without a readable time is
rejected.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.json_values import READABLE

Reasons = Mapping[str, Mapping[str, int]]
"""Column -> reason (`READABLE` for those that were read) -> number of values. Values that are not there are not counted."""


class ReadabilityCounts:
    """Counts by window, named by its start in microseconds since 1970."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[str, dict[str, int]]] = defaultdict(dict)

    def put(self, column: str, windows: pa.Array | pa.ChunkedArray, reasons: pa.Array | pa.ChunkedArray) -> None:
        """Count the values of these windows: all of a window's values at once, since it replaces what was counted of it."""
        table = pa.table({"window": windows.cast(pa.int64()), "reason": reasons})
        counted = table.group_by(["window", "reason"]).aggregate([([], "count_all")])
        for window in pc.unique(table["window"]).to_pylist():
            self._counts[window][column] = {}
        for row in counted.to_pylist():
            if row["reason"] is not None:
                self._counts[row["window"]][column][row["reason"]] = row["count_all"]

    def of_window(self, start: int) -> Reasons:
        """The counts of one window, which grow as long as its values are counted."""
        return self._counts[start]


@dataclass(frozen=True)
class ColumnReadability:
    """The values of one column that are there."""

    column: str
    values: int
    unreadable: Mapping[str, int]
    """Reason -> number of values."""

    @property
    def share(self) -> float:
        """Of the values that are there, those that cannot be read."""
        return sum(self.unreadable.values()) / self.values if self.values else 0.0


def by_column(windows: Iterable[Reasons]) -> list[ColumnReadability]:
    """The counts of several windows added up, in order of the columns' names."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for window in windows:
        for column, reasons in window.items():
            for reason, count in reasons.items():
                sums[column][reason] += count
    return [
        ColumnReadability(
            column, sum(reasons.values()), {reason: count for reason, count in sorted(reasons.items()) if reason != READABLE}
        )
        for column, reasons in sorted(sums.items())
    ]
