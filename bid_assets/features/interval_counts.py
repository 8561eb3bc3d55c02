"""Interval counting: how many intervals of time of its group hold each row, without a loop over rows.

Whatever is true of a group from one moment until another (a bid is at most 7 days old, an outcome is in force) is an
*interval* `(after, until]`: it holds the rows of the group with `after < time <= until`. For many rows it is an event sweep
over the rows in order of (group, time): both ends are found by binary search, the number of intervals is one cumulative sum,
and the largest value among them takes one pass per power of two. What an interval means is the caller's business
(`families/profile_history.py`). Times are int64 microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.arrow import Integers

NEVER, FOREVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max
"""A missing time (numpy's NaT as an integer): before every other; and a time after every other."""

FEW_ROWS = 16
"""For up to so many rows every interval is compared with every row; for more, the sweep takes less time."""

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
    """Rows, each of a group and at a time, in any order."""

    def __init__(self, group: Integers, time: Integers) -> None:
        self.group, self.time = group, time

    def count_covering(self, group: Integers, after: Integers, until: Integers) -> Integers:
        """How many of the intervals hold each row; `group` and `after` have the shape (intervals,).

        `until` may have several ends for each interval, shape (..., intervals); the result then has the shape (..., rows).
        """
        if len(self.time) <= FEW_ROWS:
            return np.asarray(self._covers(group, after, until).sum(axis=-1, dtype=np.int32))
        start, end = self._first_after(group, after), self._first_after(group, until)
        length = len(self.time) + 1
        planes = math.prod(end.shape[:-1])
        ends = np.maximum(start, end).reshape(planes, len(start))
        ends += np.arange(planes)[:, np.newaxis] * length
        change = np.bincount(start, minlength=length) - np.bincount(ends.ravel(), minlength=planes * length).reshape(-1, length)
        return self._in_own_order(change.cumsum(axis=1, dtype=np.int32)[:, :-1].reshape(*until.shape[:-1], -1))

    def max_covering(self, group: Integers, after: Integers, until: Integers, value: Integers, missing: int) -> Integers:
        """The largest value of the intervals that hold each row; `missing`, less than any, where none does.

        In the sweep every interval is the union of two, perhaps overlapping, of one power-of-two length. From the longest
        down, those of a length are written at their first row, and then halved: a sparse table for range maxima, backwards.
        """
        if len(self.time) <= FEW_ROWS:
            covered = np.where(self._covers(group, after, until), value, missing)
            return np.asarray(covered.max(axis=-1, initial=missing))
        start, end = self._first_after(group, after), self._first_after(group, until)
        nonempty = start < end
        start, end, value = start[nonempty], end[nonempty], value[nonempty]
        power = np.frexp(end - start)[1] - 1
        best = np.full(len(self.time), missing)
        for level in range(int(power.max(initial=0)), -1, -1):
            here, length = power == level, 1 << level
            np.maximum.at(best, start[here], value[here])
            np.maximum.at(best, end[here] - length, value[here])
            if half := length // 2:
                best[half:] = np.maximum(best[half:], best[:-half])
        return self._in_own_order(best)

    def _covers(self, group: Integers, after: Integers, until: Integers) -> npt.NDArray[np.bool_]:
        """Whether each interval holds each row, shape (..., rows, intervals)."""
        time = self.time[:, np.newaxis]
        among = (group == self.group[:, np.newaxis]) & (after < time)
        return np.asarray(among & (time <= until[..., np.newaxis, :]))

    def _first_after(self, group: Integers, time: Integers) -> Integers:
        """For each pair the index in order of the first row of the group after the time; the group's end if there is none."""
        return self._keys.searchsorted(_keys(group, time), side="right")

    def _in_own_order(self, values: Integers) -> Integers:
        result = np.empty_like(values)
        result[..., self._order] = values
        return result

    @cached_property
    def _order(self) -> Integers:
        return argsort_by_group_time(self.group, self.time)

    @cached_property
    def _keys(self) -> npt.NDArray[np.complex128]:
        return _keys(self.group[self._order], self.time[self._order])


def _keys(group: Integers, time: Integers) -> npt.NDArray[np.complex128]:
    """(group, time) as one number: numpy orders complex numbers by real, then imaginary part; exact up to the year 2255."""
    keys = np.empty(time.shape, np.complex128)
    keys.real, keys.imag = group, time
    return keys
