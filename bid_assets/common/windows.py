"""Window arithmetic: cadences, windows as half-open UTC ranges, and their keys. No Dagster.

Dagster's view of the same windows (partitions and mappings) is in `orchestration/partitions.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
"""The resolution of all times."""
MICROSECONDS_PER_HOUR = 3_600_000_000
MICROSECONDS_PER_DAY = 24 * MICROSECONDS_PER_HOUR

MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
"""An anchor that is both a midnight and a Monday: every window starts a whole number of lengths after it."""


class Cadence(StrEnum):
    """How long a window is. Weeks start on Monday 00:00 UTC."""

    WEEKLY = "weekly"
    DAILY = "daily"

    @property
    def length(self) -> timedelta:
        """The length of one window."""
        return timedelta(days=7 if self is Cadence.WEEKLY else 1)

    def floor(self, moment: datetime) -> datetime:
        """The start of the window that `moment` lies in."""
        return moment - (as_utc(moment) - MONDAY) % self.length

    def window(self, key: str) -> TimeRange:
        """The window with this partition key (`YYYY-MM-DD`, its first day)."""
        return _window(self, key)

    def key(self, moment: datetime) -> str:
        """The partition key of the window that `moment` lies in."""
        return self.floor(as_utc(moment)).date().isoformat()

    def keys(self, span: TimeRange) -> list[str]:
        """The keys of all windows that overlap `span`, oldest first."""
        first = self.floor(as_utc(span.start))
        count = -(-(span.end - first) // self.length)
        return [(first + number * self.length).date().isoformat() for number in range(count)]


@dataclass(frozen=True, order=True)
class TimeRange:
    """A half-open range of time `[start, end)`, in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"times must carry a zone: {self.start!r}, {self.end!r}")

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def batch_windows(keys: Iterable[str], rows: Iterable[int], rows_at_once: int) -> Iterator[tuple[list[str], int]]:
    """Successive windows that together have at least `rows_at_once` rows, the last ones maybe fewer; and how many they have.

    `rows` are those of each window. Work done batch by batch needs memory for a batch, not for the whole range.
    """
    batch, size = list[str](), 0
    for key, count in zip(keys, rows, strict=True):
        batch.append(key)
        size += count
        if size >= rows_at_once:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size


@lru_cache(1 << 16)
def _window(cadence: Cadence, key: str) -> TimeRange:
    """`Cadence.window`, parsed once for each key: a long history asks for the same thousands again and again."""
    start = datetime.strptime(key, "%Y-%m-%d").replace(tzinfo=UTC)
    if cadence.floor(start) != start:
        raise ValueError(f"no {cadence.value} window starts on {key}; the one that holds it is {cadence.key(start)}")
    return TimeRange(start, start + cadence.length)


def microseconds_since_epoch(moment: datetime) -> int:
    """An aware time as Arrow stores it."""
    return (moment - _EPOCH) // MICROSECOND


def datetime_from_microseconds(microseconds: int) -> datetime:
    """The inverse of `microseconds_since_epoch`."""
    return _EPOCH + microseconds * MICROSECOND


def as_utc(moment: datetime) -> datetime:
    """`moment` in UTC; a naive time is taken to be UTC, as the table contract says."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def utc_now() -> datetime:
    """The present moment; the one clock of the platform, which tests replace."""
    return datetime.now(UTC)
