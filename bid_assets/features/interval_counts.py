"""Counting over time without loops: rows in order of (group, time), and what holds over stretches of such rows.

The idea: what is true of a group from one moment until another (a bid is at most 7 days old, an outcome is in force) is
true for a *stretch* `[start, end)` of the group's rows, once these lie in order of time. Both ends are found by binary
search; how many stretches hold each row is then one cumulative sum, and the largest value among them takes one pass per
power of two. What the stretches mean is the caller's business (`profile_history.py`). Times are int64 microseconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.signedinteger]

MICROSECONDS_PER_HOUR = 3_600_000_000
MICROSECONDS_PER_DAY = 24 * MICROSECONDS_PER_HOUR

NEVER = np.iinfo(np.int64).min
"""Stands for a time that is missing: before every other."""

_LOW_HALF = 0xFFFFFFFF


def microseconds(times: pa.ChunkedArray) -> Integers:
    """Arrow times as integers; `NEVER`, which numpy has for no time, where one is missing."""
    return np.asarray(
        times.to_numpy().view(np.int64)
    )  # a cast would take ten times as long for the few rows that a service asks about


def order_of(group: Integers, time: Integers, name: pa.ChunkedArray | None = None) -> Integers:
    """The rows in order of group (from 0, below 2**31), then time, then name; without names, ties stand in any order.

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
        rank = pc.rank(name.take(pa.array(rows))).to_numpy()
        order[tied] = rows[np.lexsort((rank, time[rows], group[rows]))]
    return order


class Timelines:
    """Rows of several groups, each in order of time. `group` and `time` come in order of (group, time)."""

    def __init__(self, group: Integers, time: Integers) -> None:
        self.rows = len(time)
        self._keys = _keys(group, time)

    def after(self, group: Integers, time: Integers) -> Integers:
        """For each pair the first row of the group that is later than the time; the group's end where there is none."""
        return np.searchsorted(self._keys, _keys(group, time), side="right")

    def after_each(self) -> Integers:
        """The same for the rows themselves."""
        ends = np.append(np.flatnonzero(self._keys[1:] != self._keys[:-1]) + 1, self.rows)
        return np.repeat(ends, np.diff(ends, prepend=0))

    def covering(self, start: Integers, end: Integers) -> Integers:
        """How many of the stretches `[start, end)` hold each row. A stretch that ends before it starts holds none."""
        begun = np.bincount(start, minlength=self.rows + 1)
        begun -= np.bincount(np.maximum(start, end), minlength=self.rows + 1)
        return np.cumsum(begun, dtype=np.int32)[: self.rows]

    def largest(self, start: Integers, end: Integers, value: Integers, missing: int) -> Integers:
        """The largest value of the stretches `[start, end)` that hold each row; `missing`, less than any, where none does.

        Every stretch is the union of two, perhaps overlapping, of one power-of-two length. From the longest down, those of
        a length are written at their first row, and then halved: a sparse table for range maxima, run backwards.
        """
        some = start < end
        start, end, value = start[some], end[some], value[some]
        power = np.frexp(end - start)[1] - 1
        best = np.full(self.rows, missing)
        for level in range(int(power.max(initial=0)), -1, -1):
            here, length = power == level, 1 << level
            np.maximum.at(best, start[here], value[here])
            np.maximum.at(best, end[here] - length, value[here])
            if half := length // 2:
                best[half:] = np.maximum(best[half:], best[:-half])
        return best


def _keys(group: Integers, time: Integers) -> npt.NDArray[np.complex128]:
    """(group, time) as one number: numpy orders complex numbers by real, then imaginary part; exact up to the year 2255."""
    keys = np.empty(len(time), np.complex128)
    keys.real, keys.imag = group, time
    return keys
