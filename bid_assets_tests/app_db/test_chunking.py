"""Ranges are cut into chunks by counts, without losing or repeating a moment."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.chunking import CoveredRanges, chunk_range
from bid_assets.app_db.contract import TIME
from bid_assets.common.windows import TimeRange
from bid_assets_tests.app_db.database import MONDAY

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
counts = st.dictionaries(st.integers(0, 400), st.integers(1, 50), max_size=60)


def table(rows_by_hour: dict[int, int]) -> pa.Table:
    moments = pa.array([MONDAY + hour * HOUR for hour in rows_by_hour], TIME)
    return pa.table({"bucket": moments, "rows": pa.array(list(rows_by_hour.values()), pa.int64())})


@given(counts, st.integers(1, 200), st.sampled_from([HOUR, DAY]))
def test_chunks_follow_each_other_and_are_cut_at_whole_steps(rows: dict[int, int], limit: int, step: timedelta) -> None:
    span = TimeRange(MONDAY + 5 * HOUR, MONDAY + 401 * HOUR)
    inside = {hour: number for hour, number in rows.items() if MONDAY + hour * HOUR in span}  # counts are of the span alone
    parts = [part.span for part in chunk_range(span, table(inside), step, limit)]
    assert (parts[0].start, parts[-1].end) == (span.start, span.end)
    for part, following in zip(parts, parts[1:], strict=False):
        assert part.start < part.end == following.start
        assert (part.end - MONDAY) % step == timedelta(0)


@given(counts, st.integers(1, 200), st.sampled_from([HOUR, DAY]))
def test_a_chunk_exceeds_the_limit_by_less_than_one_step_holds_and_counts_its_rows(
    rows: dict[int, int], limit: int, step: timedelta
) -> None:
    span = TimeRange(MONDAY, MONDAY + 401 * HOUR)
    by_step: dict[int, int] = {}
    for hour, number in rows.items():
        by_step[hour * HOUR // step] = by_step.get(hour * HOUR // step, 0) + number
    largest = max(by_step.values(), default=0)
    for part, counted in chunk_range(span, table(rows), step, limit):
        assert counted == sum(number for hour, number in rows.items() if MONDAY + hour * HOUR in part)
        assert counted <= limit + largest


def test_what_fits_is_not_cut() -> None:
    span = TimeRange(MONDAY, MONDAY + 10 * DAY)
    assert chunk_range(span, table({1: 10, 100: 10}), HOUR, 20) == [(span, 20)]
    assert chunk_range(span, table({}), HOUR, 20) == [(span, 0)]


def test_ranges_that_touch_cover_what_lies_across_them() -> None:
    covered = CoveredRanges()
    day = [TimeRange(MONDAY + i * DAY, MONDAY + (i + 1) * DAY) for i in range(5)]
    for span in (day[0], day[1], day[3]):
        covered.add(span)
    assert TimeRange(day[0].start + HOUR, day[1].end) in covered
    assert day[3] in covered
    assert day[2] not in covered
    assert TimeRange(day[1].start, day[3].end) not in covered
