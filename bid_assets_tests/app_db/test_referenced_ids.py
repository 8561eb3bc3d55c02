"""The ids that bids reference are kept per window, without repeats."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.referenced_ids import REFERENCE_SCHEMA, ReferencedIds, match_rows
from bid_assets.common.windows import Cadence, TimeRange
from bid_assets_tests.app_db.database import MONDAY

DAY = timedelta(days=1)
some_bids = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcde")), max_size=40)


def bids(days_and_jobs: list[tuple[int, str]]) -> pa.Table:
    rows = [{"profile_id": "p", "job_id": job, "submitted_at": MONDAY + day * DAY} for day, job in days_and_jobs]
    return pa.Table.from_pylist(rows, REFERENCE_SCHEMA)


@pytest.mark.parametrize("cadence", Cadence)
@given(some_bids, st.integers(0, 31), st.integers(0, 30))
def test_each_window_has_its_ids_once_however_the_bids_were_cut(
    cadence: Cadence, days_and_jobs: list[tuple[int, str]], cut: int, start: int
) -> None:
    ids = ReferencedIds(cadence)
    spans = [TimeRange(MONDAY, MONDAY + cut * DAY), TimeRange(MONDAY + cut * DAY, MONDAY + 31 * DAY)]
    for span in spans:
        ids.add(span, bids([(day, job) for day, job in days_and_jobs if MONDAY + day * DAY in span]))
    requested = TimeRange(cadence.floor(MONDAY + start * DAY), MONDAY + 31 * DAY)
    pairs = ids.in_range(requested, "job_id", spans)
    actual = [(row["window"], row["id"]) for row in pairs.to_pylist()]
    expected = {(cadence.floor(MONDAY + day * DAY), job) for day, job in days_and_jobs}
    assert sorted(actual) == sorted(pair for pair in expected if pair[0] >= requested.start)
    assert set(pairs["id"].chunk(0).dictionary.to_pylist()) == {job for _, job in actual}


def test_only_the_ranges_that_are_asked_for_count() -> None:
    ids = ReferencedIds(Cadence.WEEKLY)
    first, both = TimeRange(MONDAY, MONDAY + DAY), TimeRange(MONDAY, MONDAY + 2 * DAY)
    ids.add(both, bids([(0, "a"), (1, "b")]))
    ids.add(first, bids([(0, "a")]))
    assert both in ids
    assert TimeRange(MONDAY + DAY, MONDAY + 2 * DAY) not in ids
    assert ids.in_range(first, "job_id", [first])["id"].to_pylist() == ["a"]


def test_matches_are_by_window_and_leave_out_ids_without_a_row() -> None:
    ids = ReferencedIds(Cadence.DAILY)
    span = TimeRange(MONDAY, MONDAY + 2 * DAY)
    ids.add(span, bids([(1, "c"), (1, "x"), (0, "b"), (0, "c"), (1, "a")]))
    pairs = ids.in_range(span, "job_id", [span])
    dictionary = pairs["id"].chunk(0).dictionary.to_pylist()
    rows = pa.table({"id": ["a", "b", "c"], "at": [dictionary.index(name) + 1 for name in "abc"]})
    windows, indices = match_rows(pairs, rows)
    assert windows.to_pylist() == [MONDAY, MONDAY, MONDAY + DAY, MONDAY + DAY]
    assert rows["id"].take(indices).to_pylist() == ["b", "c", "a", "c"]
