from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.common.arrow import split_by_window
from bid_assets.common.windows import Cadence, TimeRange

START = datetime(2026, 1, 5, tzinfo=UTC)
KEYS = Cadence.WEEKLY.keys(TimeRange(START, START + timedelta(weeks=5)))
SCHEMA = pa.schema([("at", pa.timestamp("us", tz="UTC")), ("id", pa.int64())])
hours = st.lists(st.integers(0, 5 * 7 * 24 - 1), max_size=60)


def rows(hours_since_start: list[int]) -> pa.Table:
    times = [START + timedelta(hours=hour) for hour in hours_since_start]
    return pa.table({"at": times, "id": range(len(times))}, schema=SCHEMA)


@given(hours)
def test_every_row_lands_in_its_own_window_and_none_is_lost(hours_since_start: list[int]) -> None:
    parts = dict(split_by_window(rows(hours_since_start), "at", KEYS, Cadence.WEEKLY))
    assert list(parts) == KEYS
    assert all(Cadence.WEEKLY.key(at) == key for key, part in parts.items() for at in part["at"].to_pylist())
    assert sorted(i for part in parts.values() for i in part["id"].to_pylist()) == list(range(len(hours_since_start)))


@given(hours, st.integers(1, 7))
def test_a_stream_is_cut_like_a_table(hours_since_start: list[int], batch_rows: int) -> None:
    table = rows(sorted(hours_since_start))
    stream = pa.RecordBatchReader.from_batches(SCHEMA, table.to_batches(max_chunksize=batch_rows))
    streamed = {key: part.to_pylist() for key, part in split_by_window(stream, "at", KEYS, Cadence.WEEKLY)}
    assert streamed == {k: part.to_pylist() for k, part in split_by_window(table, "at", KEYS, Cadence.WEEKLY)}


def test_a_row_outside_of_the_windows_is_an_error_that_shows_it() -> None:
    with pytest.raises(ValueError, match=r"1 rows lie outside.*2026-02-09"):
        list(split_by_window(rows([5 * 7 * 24]), "at", KEYS, Cadence.WEEKLY))


def test_a_row_without_a_time_is_an_error() -> None:
    table = pa.table({"at": [None], "id": [1]}, schema=SCHEMA)
    with pytest.raises(ValueError, match="have no at"):
        list(split_by_window(table, "at", KEYS, Cadence.WEEKLY))


def test_a_stream_that_goes_back_in_time_is_an_error() -> None:
    batches = rows([400, 1]).to_batches(max_chunksize=1)
    stream = pa.RecordBatchReader.from_batches(SCHEMA, batches)
    with pytest.raises(ValueError, match="goes back in time"):
        list(split_by_window(stream, "at", KEYS, Cadence.WEEKLY))
