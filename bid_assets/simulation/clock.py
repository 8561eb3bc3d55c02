"""When people are at work: a week's moments, more of them on weekdays and by day than at night."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bid_assets.common.windows import MICROSECONDS_PER_HOUR

_HOURS_OF_DAY = np.array([2, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 11, 9, 10, 12, 12, 11, 10, 9, 9, 8, 7, 5, 3], dtype=np.float64)
_DAYS_OF_WEEK = np.array([1.15, 1.2, 1.15, 1.1, 1.0, 0.65, 0.6])  # from Monday
_MONDAY = 4 * 24  # 1970-01-05, in hours since 1970


def moments_of_week(rng: np.random.Generator, count: int, start: int) -> NDArray[np.int64]:
    """`count` moments in the seven days from `start`, sorted; all in microseconds since 1970, UTC."""
    hours = start // MICROSECONDS_PER_HOUR + np.arange(7 * 24)
    weights = np.cumsum(_HOURS_OF_DAY[hours % 24] * _DAYS_OF_WEEK[weekday(hours * MICROSECONDS_PER_HOUR)])
    hour = np.searchsorted(weights[:-1], rng.random(count) * weights[-1])
    return np.sort(start + hour * MICROSECONDS_PER_HOUR + (rng.random(count) * MICROSECONDS_PER_HOUR).astype(np.int64))


def weekday(moments: NDArray[np.int64]) -> NDArray[np.int64]:
    """The day of the week of each moment, 0 = Monday."""
    return (moments // MICROSECONDS_PER_HOUR - _MONDAY) // 24 % 7
