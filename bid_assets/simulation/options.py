"""What can be said about a simulated market, and where its random numbers come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

import numpy as np

from bid_assets.common.windows import Cadence, microseconds_since_epoch, utc_now

WEEK = timedelta(days=7)


class RandomStream(IntEnum):
    """Independent random streams: drawing more from one changes nothing in another."""

    PROFILES = 0
    JOBS = 1
    BIDS = 2
    BID_TEXTS = 3
    OUTCOMES = 4
    CORRUPTION = 5
    PROFILE_CORRUPTION = 6


@dataclass(frozen=True)
class MarketplaceOptions:
    """The size, time and seed of a market; equal options give equal tables. Raises `ValueError` for impossible ones."""

    weeks: int = 26
    """How many weeks are simulated."""
    bids: int = 20_000
    """How many bids are submitted in them; profiles and jobs scale with the weekly rate."""
    seed: int = 7
    end: datetime = field(default_factory=lambda: Cadence.WEEKLY.floor(utc_now()))
    """When the simulation ends: what becomes known from then on has not happened yet. Default: the last Monday 00:00 UTC."""
    corruption_share: float = 0.01
    """Share of corrupted rows (a value missing, JSON badly stored), for each kind of it; a twentieth of this share
    breaks the contract in each of several ways. 0: clean tables."""
    change_week: int | None = None
    """From this week on (0 is the first) clients care about other things: a change of regime. None: they never do."""

    def __post_init__(self) -> None:
        for name, low in (("weeks", 1), ("bids", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"marketplace: {name} must be at least {low}, not {getattr(self, name)}")
        if not 0 <= self.corruption_share <= 0.2:
            raise ValueError(f"marketplace: corruption_share is a share between 0 and 0.2, not {self.corruption_share}")
        if self.end.tzinfo is None:
            raise ValueError(f"marketplace: the end must carry a time zone: {self.end!r}")

    @property
    def start(self) -> datetime:
        """When the first bid may be submitted."""
        return self.end - self.weeks * WEEK

    @property
    def weekly_bids(self) -> float:
        """The rate that everything else scales with."""
        return self.bids / self.weeks

    def microseconds(self, week: int) -> int:
        """The start of a week of this market (0 is the first, -1 the one before), in microseconds since 1970."""
        return microseconds_since_epoch(self.start + week * WEEK)

    def generator(self, week: int, stream: RandomStream) -> np.random.Generator:
        """The random generator of one week: it depends on no other week, so a longer market begins like a shorter one."""
        return np.random.default_rng([self.seed, week + 1, stream])


def integer_count(rate: float, week: int) -> int:
    """How many events happen in this week at `rate` per week, such that n weeks have floor(n x rate) of them."""
    return int((week + 1) * rate + 1e-6) - int(week * rate + 1e-6)
