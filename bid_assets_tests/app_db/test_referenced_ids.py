"""What bids name is remembered per window, without repeats."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.referenced_ids import NAMING, Names, places
from bid_assets.common.windows import Cadence, TimeRange
from bid_assets_tests.app_db.database import MONDAY

DAY = timedelta(days=1)
some_bids = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcde")), max_size=40)


def bids(days_and_jobs: list[tuple[int, str]]) -> pa.Table:
    rows = [{"profile_id": "p", "job_id": job, "submitted_at": MONDAY + day * DAY} for day, job in days_and_jobs]
    return pa.Table.from_pylist(rows, NAMING)


@pytest.mark.parametrize("cadence", Cadence)
@given(some_bids, st.integers(0, 31), st.integers(0, 30))
def test_each_window_has_its_names_once_however_the_bids_were_cut(
    cadence: Cadence, days_and_jobs: list[tuple[int, str]], cut: int, start: int
) -> None:
    names = Names(cadence)
    learnt = [TimeRange(MONDAY, MONDAY + cut * DAY), TimeRange(MONDAY + cut * DAY, MONDAY + 31 * DAY)]
    for span in learnt:
        names.learn(span, bids([(day, job) for day, job in days_and_jobs if MONDAY + day * DAY in span]))
    asked = TimeRange(cadence.floor(MONDAY + start * DAY), MONDAY + 31 * DAY)
    pairs = names.within(asked, "job_id", learnt)
    found = [(row["window"], row["id"]) for row in pairs.to_pylist()]
    expected = {(cadence.floor(MONDAY + day * DAY), job) for day, job in days_and_jobs}
    assert sorted(found) == sorted(pair for pair in expected if pair[0] >= asked.start)
    assert set(pairs["id"].chunk(0).dictionary.to_pylist()) == {job for _, job in found}


def test_only_the_ranges_that_are_asked_for_count() -> None:
    names = Names(Cadence.WEEKLY)
    first, both = TimeRange(MONDAY, MONDAY + DAY), TimeRange(MONDAY, MONDAY + 2 * DAY)
    names.learn(both, bids([(0, "a"), (1, "b")]))
    names.learn(first, bids([(0, "a")]))
    assert both in names
    assert TimeRange(MONDAY + DAY, MONDAY + 2 * DAY) not in names
    assert names.within(first, "job_id", [first])["id"].to_pylist() == ["a"]


def test_places_are_by_window_and_leave_out_names_without_a_row() -> None:
    names = Names(Cadence.DAILY)
    span = TimeRange(MONDAY, MONDAY + 2 * DAY)
    names.learn(span, bids([(1, "c"), (1, "x"), (0, "b"), (0, "c"), (1, "a")]))
    pairs = names.within(span, "job_id", [span])
    ids = pairs["id"].chunk(0).dictionary.to_pylist()
    rows = pa.table({"id": ["a", "b", "c"], "at": [ids.index(name) + 1 for name in "abc"]})
    windows, place = places(pairs, rows)
    assert windows.to_pylist() == [MONDAY, MONDAY, MONDAY + DAY, MONDAY + DAY]
    assert rows["id"].take(place).to_pylist() == ["b", "c", "a", "c"]
