"""Small markets that several tests look at; made once."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from bid_assets.simulation.options import MarketplaceOptions
from bid_assets.simulation.simulate import Marketplace, simulate

END = datetime(2024, 7, 1, tzinfo=UTC)


@cache
def market(weeks: int = 20, bids: int = 10_000, seed: int = 7, corruption_share: float = 0.0) -> Marketplace:
    """A market that ends on a Monday in 2024."""
    return simulate(MarketplaceOptions(weeks=weeks, bids=bids, seed=seed, end=END, corruption_share=corruption_share))
