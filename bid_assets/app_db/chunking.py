"""Chunks of a range of time that hold about equally many rows. Pure arithmetic on counts."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bid_assets.common.arrow import microseconds, window_numbers
from bid_assets.common.windows import MONDAY, TimeRange


class Chunk(NamedTuple):
    """A part of a range of time, and how many rows it has."""

    span: TimeRange
    rows: int


def chunk_range(span: TimeRange, counts: pa.Table, step: timedelta, limit: int) -> list[Chunk]:
    """Cut `span` at multiples of `step` (from `MONDAY`) into chunks of about `limit` rows, and never without need.

    `counts` has `bucket` (start of an interval whose length divides `step`) and `rows`, in any order. A chunk exceeds
    `limit` by less than one step's rows.
    """
    steps, members = np.unique(window_numbers(microseconds(counts["bucket"]), step), return_inverse=True)
    rows = np.bincount(members, weights=counts["rows"].to_numpy(), minlength=len(steps)).astype(np.int64)
    first = np.flatnonzero(np.diff((np.cumsum(rows) - 1) // limit, prepend=-1) > 0)[1:]
    edges = [span.start, *(MONDAY + int(index) * step for index in steps[first]), span.end]
    sizes = [int(part.sum()) for part in np.split(rows, first)]
    return [Chunk(TimeRange(*ends), size) for *ends, size in zip(edges, edges[1:], sizes, strict=False)]


class CoveredRanges:
    """A union of ranges of time, for asking whether another range lies within it."""

    def __init__(self) -> None:
        self._ranges: list[TimeRange] = []

    def add(self, span: TimeRange) -> None:
        """One more range; it is joined to the one that was added before, where they touch."""
        if self._ranges and self._ranges[-1].end == span.start:
            span = TimeRange(self._ranges.pop().start, span.end)
        self._ranges.append(span)

    def __contains__(self, span: TimeRange) -> bool:
        return any(known.start <= span.start and span.end <= known.end for known in self._ranges)
