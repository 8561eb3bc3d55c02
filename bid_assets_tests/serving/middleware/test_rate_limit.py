"""Token buckets: no caller gets more than its rate, and none pays for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.serving.middleware import rate_limit
from bid_assets.serving.middleware.rate_limit import TokenBucketLimiter


@given(rate=st.floats(0.1, 50), pauses=st.lists(st.floats(0, 5), max_size=60))
def test_property_a_caller_gets_at_most_a_full_bucket_and_the_rate(rate: float, pauses: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = 100.0
        patch.setattr(rate_limit.time, "monotonic", lambda: now)
        limiter, granted = TokenBucketLimiter(rate), 0
        for pause in pauses:
            now += pause
            granted += limiter.acquire("bidder") == 0.0
        assert granted <= max(1.0, rate) + (now - 100.0) * rate + 1e-6


def test_who_waits_as_long_as_it_says_gets_a_token_and_others_are_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(rate_limit.time, "monotonic", lambda: now)
    limiter = TokenBucketLimiter(0.5)
    assert limiter.acquire("bidder") == 0.0
    wait = limiter.acquire("bidder")
    assert wait == pytest.approx(2.0)
    assert limiter.acquire("other") == 0.0
    now += wait
    assert limiter.acquire("bidder") == 0.0
