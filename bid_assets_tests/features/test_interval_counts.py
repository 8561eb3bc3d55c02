from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.features.interval_counts import GroupedTimeline, argsort_by_group_time

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5), st.sampled_from(["a", "B", "é", "10", "9"])), max_size=30)


def numbers(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(ROWS)
def test_rows_are_ordered_by_group_then_time_then_name(rows: list[tuple[int, int, str]]) -> None:
    names = pa.chunked_array([[row[2] for row in rows]], pa.string())
    order = argsort_by_group_time(numbers([row[0] for row in rows]), numbers([row[1] for row in rows]), names)
    assert sorted(order) == list(range(len(rows)))
    assert [rows[index] for index in order] == sorted(rows)


def test_microseconds_of_any_year_we_may_see_are_told_apart() -> None:
    time = numbers([-(10**15), 1_900_000_000_000_000, 1_900_000_000_000_001, 9_000_000_000_000_000])
    timeline = GroupedTimeline(numbers([7] * 4), time)
    assert timeline.first_after(numbers([7] * 4), time - 1).tolist() == [0, 1, 2, 3]


@given(ROWS, ROWS)
def test_after_is_the_first_later_row_of_the_group(rows: list[tuple[int, int, str]], asked: list[tuple[int, int, str]]) -> None:
    rows = sorted(rows)
    timeline = GroupedTimeline(numbers([row[0] for row in rows]), numbers([row[1] for row in rows]))
    expected = [sum(row[:2] <= pair[:2] for row in rows) for pair in asked]
    assert timeline.first_after(numbers([pair[0] for pair in asked]), numbers([pair[1] for pair in asked])).tolist() == expected
    assert timeline.first_after_each_row().tolist() == [sum(row[:2] <= other[:2] for row in rows) for other in rows]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(-9, 9)), max_size=20))
def test_stretches_are_counted_and_their_largest_value_found_row_by_row(stretches: list[tuple[int, int, int]]) -> None:
    timeline = GroupedTimeline(numbers([0] * 40), np.arange(40))
    start, end, value = (numbers([stretch[part] for stretch in stretches]) for part in range(3))
    holding = [[of for first, last, of in stretches if first <= row < last] for row in range(40)]
    assert timeline.count_covering(start, end).tolist() == [len(values) for values in holding]
    assert timeline.max_covering(start, end, value, missing=-99).tolist() == [max(values, default=-99) for values in holding]
