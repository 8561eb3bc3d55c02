from __future__ import annotations

from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.features import interval_counts
from bid_assets.features.interval_counts import FEW_ROWS, GroupedTimeline, argsort_by_group_time

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5), st.sampled_from(["a", "B", "é", "10", "9"])), max_size=30)


def numbers(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(ROWS)
def test_rows_are_ordered_by_group_then_time_then_name(rows: list[tuple[int, int, str]]) -> None:
    names = pa.chunked_array([[row[2] for row in rows]], pa.string())
    order = argsort_by_group_time(numbers([row[0] for row in rows]), numbers([row[1] for row in rows]), names)
    listed = argsort_by_group_time(
        numbers([row[0] for row in rows]), numbers([row[1] for row in rows]), [row[2] for row in rows]
    )
    assert order.tolist() == listed.tolist()
    assert sorted(order) == list(range(len(rows)))
    assert [rows[index] for index in order] == sorted(rows)


def test_microseconds_of_any_year_we_may_see_are_told_apart() -> None:
    time = numbers([-(10**15), 1_900_000_000_000_000, 1_900_000_000_000_001, 9_000_000_000_000_000])
    timeline = GroupedTimeline(numbers([7] * 4), time)
    with mock.patch.object(interval_counts, "FEW_ROWS", 0):
        assert timeline.count_covering(numbers([7]), time[1:2], time[2:3]).tolist() == [0, 0, 1, 0]
        assert timeline.count_covering(numbers([7]), time[1:2] - 1, time[2:3] - 1).tolist() == [0, 1, 0, 0]


TIMES = st.integers(-5, 5)
INTERVALS = st.lists(st.tuples(st.integers(0, 3), TIMES, TIMES, TIMES, st.integers(-9, 9)), max_size=20)


@pytest.mark.parametrize("few_rows", [0, FEW_ROWS])
@given(intervals=INTERVALS, rows=st.lists(st.tuples(st.integers(0, 3), TIMES), max_size=FEW_ROWS))
def test_property_intervals_are_counted_and_their_largest_value_found_row_by_row(
    few_rows: int, intervals: list[tuple[int, int, int, int, int]], rows: list[tuple[int, int]]
) -> None:
    timeline = GroupedTimeline(numbers([group for group, _ in rows]), numbers([time for _, time in rows]))
    group, after, until, other, value = (numbers([interval[part] for interval in intervals]) for part in range(5))
    covering = [
        [[each[4] for each in intervals if each[0] == of and each[1] < time <= each[part]] for of, time in rows]
        for part in (2, 3)
    ]
    with mock.patch.object(interval_counts, "FEW_ROWS", few_rows):
        counts = timeline.count_covering(group, after, np.stack([until, other]))
        assert timeline.count_covering(group, after, until).tolist() == counts[0].tolist()
        largest = timeline.max_covering(group, after, until, value, missing=-99)
    assert counts.tolist() == [[len(values) for values in of_ends] for of_ends in covering]
    assert largest.tolist() == [max(values, default=-99) for values in covering[0]]
