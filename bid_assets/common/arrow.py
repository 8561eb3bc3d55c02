"""Arrow times as integers, and Arrow tables and streams split by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.common.windows import MICROSECOND, MONDAY, Cadence, microseconds_since_epoch

FloatArray = npt.NDArray[np.float64]
Integers = npt.NDArray[np.signedinteger]


def microseconds(times: pa.ChunkedArray | pa.Array) -> Integers:
    """Times as microseconds since 1970; NumPy's NaT as an integer, the smallest there is, where one is missing."""
    if times.type.unit != "us":
        times = times.cast(pa.timestamp("us", tz="UTC"))
    # a cast to integers would take ten times as long for the few rows that a service asks about
    return np.asarray(times.to_numpy(zero_copy_only=False).view(np.int64))


def window_numbers(times: Integers, length: timedelta) -> Integers:
    """The number of the window of this length that each time lies in (microseconds), counted from `MONDAY`."""
    return np.asarray((times - microseconds_since_epoch(MONDAY)) // (length // MICROSECOND))


def window_starts(times: Integers, length: timedelta) -> Integers:
    """The start of the window of this length that each time lies in; all in microseconds."""
    return np.asarray(window_numbers(times, length) * (length // MICROSECOND) + microseconds_since_epoch(MONDAY))


def split_by_window(
    rows: pa.Table | pa.RecordBatchReader, column: str, keys: Sequence[str], cadence: Cadence
) -> Iterator[tuple[str, pa.Table]]:
    """One table per window of `keys`, empty ones included, oldest first.

    A table may hold its rows in any order; inside a window the order is kept. A stream must give its rows in order of
    windows: each window is yielded as soon as it is complete, so that no more than one is held.

    Raises `ValueError` where a row lies in none of the windows: nothing is dropped in silence.
    """
    edges = _edges(keys, cadence)
    if isinstance(rows, pa.Table):
        window = _window_of(rows[column], edges, column, keys)
        order = pa.array(np.argsort(window, kind="stable"))
        counts = np.bincount(window, minlength=len(keys))
        rows = rows.take(order) if np.any(window[1:] < window[:-1]) else rows
        start = 0
        for key, count in zip(keys, counts, strict=True):
            yield key, rows.slice(start, count)
            start += count
        return
    yield from _split_stream(rows, column, keys, edges)


def _split_stream(
    stream: pa.RecordBatchReader, column: str, keys: Sequence[str], edges: np.ndarray
) -> Iterator[tuple[str, pa.Table]]:
    current, held = 0, list[pa.RecordBatch]()
    for batch in stream:
        window = _window_of(batch.column(column), edges, column, keys)
        if np.any(window[1:] < window[:-1]) or (len(window) and window[0] < current):
            raise ValueError(f"a stream must give its rows in order of windows; {column} goes back in time")
        starts = np.searchsorted(window, np.arange(len(keys) + 1))
        for index in np.unique(window):
            while current < index:
                yield keys[current], pa.Table.from_batches(held, stream.schema)
                current, held = current + 1, []
            held.append(batch.slice(starts[index], starts[index + 1] - starts[index]))
    while current < len(keys):
        yield keys[current], pa.Table.from_batches(held, stream.schema)
        current, held = current + 1, []


def _edges(keys: Sequence[str], cadence: Cadence) -> np.ndarray:
    windows = [cadence.window(key) for key in keys]
    for earlier, later in zip(windows, windows[1:], strict=False):
        if earlier.end != later.start:
            raise ValueError(f"windows must follow each other: {earlier} and {later} do not")
    moments = [window.start for window in windows] + [windows[-1].end]
    return np.array([microseconds_since_epoch(moment) for moment in moments], dtype=np.int64)


def _window_of(times: pa.ChunkedArray | pa.Array, edges: np.ndarray, column: str, keys: Sequence[str]) -> np.ndarray:
    """The index of each row's window."""
    if times.null_count:
        raise ValueError(f"{times.null_count} rows have no {column}, so they belong to no window")
    window: np.ndarray = np.searchsorted(edges, microseconds(times), side="right") - 1
    outside = (window < 0) | (window >= len(keys))
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} rows lie outside of the windows {keys[0]} to {keys[-1]} that are being written, "
            f"e.g. {column} = {times[int(np.argmax(outside))]}"
        )
    return window
