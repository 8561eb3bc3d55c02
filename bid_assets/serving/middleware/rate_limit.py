"""The rate limit of the service: a token bucket for each caller, in the memory of one worker."""

from __future__ import annotations

import time


class TokenBucketLimiter:
    """Token buckets by caller, refilled at `rate` tokens a second. A bucket holds the tokens of one second, at least one."""

    def __init__(self, rate: float) -> None:
        self._rate, self._capacity = rate, max(1.0, rate)
        self._buckets: dict[str, tuple[float, float]] = {}
        """Caller -> tokens, and the time (monotonic seconds) at which there were so many."""

    def acquire(self, caller: str) -> float:
        """Take a token: 0.0, or the seconds until there is one if the bucket is empty."""
        now = time.monotonic()
        tokens, updated_at = self._buckets.get(caller, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - updated_at) * self._rate)
        if tokens < 1:
            self._buckets[caller] = tokens, now
            return (1 - tokens) / self._rate
        self._buckets[caller] = tokens - 1, now
        return 0.0
