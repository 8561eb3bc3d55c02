"""Cutting a range of time into parts that hold about equally many rows. Pure arithmetic on counts."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.windows import MONDAY, TimeRange


def cut(span: TimeRange, counts: pa.Table, step: timedelta, limit: int) -> list[TimeRange]:
    """Cut `span` at multiples of `step` (from `MONDAY`) into parts of about `limit` rows, and never without need.

    `counts` has `bucket` (start of a stretch of time that divides `step`) and `rows`, in any order. A part exceeds
    `limit` by less than one step's rows.
    """
    width = step // timedelta(microseconds=1)
    origin = int(MONDAY.timestamp()) * 1_000_000
    buckets = pc.cast(counts["bucket"], pa.int64()).to_numpy()
    steps, members = np.unique((buckets - origin) // width, return_inverse=True)
    rows = np.bincount(members, weights=counts["rows"].to_numpy(), minlength=len(steps))
    part = (np.cumsum(rows) - 1) // limit
    cuts = [MONDAY + int(step_index) * step for step_index in steps[1:][np.diff(part) > 0]]
    edges = [span.start, *(edge for edge in cuts if edge > span.start), span.end]
    return [TimeRange(start, end) for start, end in zip(edges, edges[1:], strict=False)]
