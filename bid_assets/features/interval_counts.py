"""Interval counting by event sweep: how many intervals of a group's timeline hold each row, without a loop over rows.

Rows are in order of (group, time). Whatever is true of a group from one moment until another (a bid is at most 7 days
old, an outcome is in force) is true for an *interval* `[start, end)` of row indices. Both ends are found by binary
search; the number of intervals that hold each row is one cumulative sum, and the largest value among them takes one
pass per power of two. What an interval means is the caller's business (`families/profile_history.py`). Times are int64
microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.arrow import Integers

MICROSECONDS_PER_HOUR = 3_600_000_000
MICROSECONDS_PER_DAY = 24 * MICROSECONDS_PER_HOUR

NEVER = np.iinfo(np.int64).min
"""A missing time (numpy's NaT as an integer): before every other."""

FEW_ROWS = 16
"""For up to so many rows every interval is looked at; for more, a sweep over all of the timeline takes less time."""

_LOW_HALF = 0xFFFFFFFF


def argsort_by_group_time(group: Integers, time: Integers, name: pa.ChunkedArray | Sequence[str] | None = None) -> Integers:
    """The indices that sort by group (from 0, below 2**31), then time, then name; without names, ties are in any order.

    Sorts plain integers only, which numpy does many times faster than several keys at once; names are compared just
    where group and time are equal.
    """
    by_time = np.argsort(time)
    packed = np.sort(group[by_time] << 32 | np.arange(len(time)))
    order: Integers = by_time[packed & _LOW_HALF]
    if name is None:
        return order
    of, at = packed >> 32, time[order]
    same = (of[1:] == of[:-1]) & (at[1:] == at[:-1])
    if same.any():
        tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
        rows = order[tied]
        names = name.take(pa.array(rows)) if isinstance(name, pa.ChunkedArray) else pa.array(name[row] for row in rows)
        rank = pc.rank(names).to_numpy()
        order[tied] = rows[np.lexsort((rank, time[rows], group[rows]))]
    return order


class GroupedTimeline:
    """Rows of several groups, sorted by (group, time), as `group` and `time` must be."""

    def __init__(self, group: Integers, time: Integers) -> None:
        self.rows = len(time)
        self._keys = _keys(group, time)

    def first_after(self, group: Integers, time: Integers) -> Integers:
        """For each pair the index of the first row of the group after the time; the end of the group if there is none."""
        return self._keys.searchsorted(_keys(group, time), side="right")

    def count_covering(self, start: Integers, end: Integers, rows: Integers) -> Integers:
        """How many of the intervals `[start, end)` hold each of `rows`. An interval that ends before it starts holds none.

        `end` may have several ends for each start, shape (n, intervals); the result then has shape (n, rows).
        """
        if len(rows) <= FEW_ROWS:
            return np.asarray(_covers(start, end, rows).sum(axis=-1, dtype=np.int32))
        length = self.rows + 1
        ends = np.atleast_2d(np.maximum(start, end))
        ends += np.arange(len(ends))[:, np.newaxis] * length
        change = np.bincount(start, minlength=length) - np.bincount(ends.ravel(), minlength=ends.shape[0] * length).reshape(
            -1, length
        )
        return change.cumsum(axis=1, dtype=np.int32)[:, rows].reshape(*end.shape[:-1], len(rows))

    def max_covering(self, start: Integers, end: Integers, value: Integers, rows: Integers, missing: int) -> Integers:
        """The largest value of the intervals `[start, end)` that hold each of `rows`; `missing`, less than any, if none does.

        Every interval is the union of two, perhaps overlapping, of one power-of-two length. From the longest down, those of
        a length are written at their first row, and then halved: a sparse table for range maxima, run backwards.
        """
        if len(rows) <= FEW_ROWS:
            return np.asarray(np.where(_covers(start, end, rows), value, missing).max(axis=-1, initial=missing))
        nonempty = start < end
        start, end, value = start[nonempty], end[nonempty], value[nonempty]
        power = np.frexp(end - start)[1] - 1
        best = np.full(self.rows, missing)
        for level in range(int(power.max(initial=0)), -1, -1):
            here, length = power == level, 1 << level
            np.maximum.at(best, start[here], value[here])
            np.maximum.at(best, end[here] - length, value[here])
            if half := length // 2:
                best[half:] = np.maximum(best[half:], best[:-half])
        return best[rows]


def _covers(start: Integers, end: Integers, rows: Integers) -> npt.NDArray[np.bool_]:
    """Whether each row is held by each interval, shape (rows, intervals), or (n, rows, intervals) of n ends for each start."""
    row = rows[:, np.newaxis]
    return np.asarray((start <= row) & (row < end[..., np.newaxis, :]))


def _keys(group: Integers, time: Integers) -> npt.NDArray[np.complex128]:
    """(group, time) as one number: numpy orders complex numbers by real, then imaginary part; exact up to the year 2255."""
    keys = np.empty(time.shape, np.complex128)
    keys.real, keys.imag = group, time
    return keys
