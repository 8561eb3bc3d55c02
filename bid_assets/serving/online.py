"""Features of bids to be, by the families that training uses, over the application's database as of each bid's time.

Nothing of a feature is computed here. A few bids are put to the families as plain values (`plain_bids.py`), many as the raw
tables that the families would see of past bids (`raw_rows.py`). What is served equals what was trained on, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa

from bid_assets.app_db.contract import TEXT
from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.lookup import Found, Lookup
from bid_assets.features.base import VECTOR
from bid_assets.features.encoder import make_encoder
from bid_assets.features.families import families
from bid_assets.features.one_bid import OneBid
from bid_assets.modelling.preprocess import PROFILE
from bid_assets.serving.freshness import TERMS, missing, newest_outcomes
from bid_assets.serving.plain_bids import plain_bids
from bid_assets.serving.raw_rows import RawRows
from bid_assets.serving.requests import BidToBe
from bid_assets.settings import Settings
from bid_assets.windows import TimeRange, as_utc, microseconds_since_epoch

FEW = 256
"""Up to so many bids are looked at one by one; more as columns, which then take less time for each."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class OnlineBatch:
    """Features of some bids, in their order."""

    values: pa.Table | list[dict[str, Any]]
    """Who bids, and the features of all families: a table or, of a few bids, plain values by name (vectors as arrays); null where something is unknown."""
    schema: pa.Schema
    missing: list[list[str]]
    """Of each bid what was not there, in words."""
    as_of: list[datetime]
    newest_outcome: list[datetime | None]
    """The newest outcome of the profile that was known then: how fresh its history is."""

    @cached_property
    def table(self) -> pa.Table:
        """The features as a table, with the columns and types of the store."""
        return self.values if isinstance(self.values, pa.Table) else pa.Table.from_pylist(self.values, schema=self.schema)


class OnlineFeatures:
    """Makes features for the prediction service. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._cadence = settings.cadence
        self.lookup = Lookup(app_db_url(settings), seconds=settings.serving_lookup_seconds)
        self._back = timedelta(days=max(family.lookback_days for family in families()))
        self._few = FEW if all(family.of_few is not None for family in families()) else 0
        self.encoder = make_encoder(settings.encoder, settings.home, settings.resolved_encoder_cache)

    @cached_property
    def schema(self) -> pa.Schema:
        """The profile, and all features by name, with the types of the store."""
        vector = pa.list_(pa.float32(), self.encoder.dimension)
        features = [feature for family in families() for feature in family.features]
        return pa.schema([(PROFILE, TEXT), *((each.name, vector if each.type == VECTOR else each.type) for each in features)])

    def features(self, bids: Sequence[BidToBe]) -> OnlineBatch:
        """The features of `bids`, with one look-up however many they are. Raises as `Lookup.find`."""
        now = datetime.now(UTC)
        times = [now if bid.at is None else as_utc(bid.at) for bid in bids]
        found = self.lookup.find(
            sorted({bid.profile_id for bid in bids}),
            sorted({bid.job_id for bid in bids if bid.job_id is not None and bid.job is None}),
            min(times) - self._back,
            max(times) + _MICROSECOND,
            sorted({bid.job.client_id for bid in bids if bid.job is not None and bid.job.client_id is not None}),
        )
        at = [microseconds_since_epoch(moment) for moment in times]
        if len(bids) <= self._few:
            rows = self._one_by_one(bids, plain_bids(bids, at, found))
            known: list[dict[str, Any]] = rows
        else:
            rows = self._by_columns(bids, times, found)
            known = rows.select(["bids_90d", *TERMS]).to_pylist()
        return OnlineBatch(rows, self.schema, missing(bids, at, found, known), times, newest_outcomes(bids, at, found))

    def _one_by_one(self, asked: Sequence[BidToBe], bids: Sequence[OneBid]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{PROFILE: bid.profile_id} for bid in asked]
        for family in families():
            assert family.of_few is not None
            for row, features in zip(rows, family.of_few(bids, self.encoder), strict=True):
                row |= features
        return rows

    def _by_columns(self, bids: Sequence[BidToBe], times: Sequence[datetime], found: Found) -> pa.Table:
        rows = RawRows(bids, times, found, self._cadence)
        span = TimeRange(self._cadence.floor(min(times)), max(times) + _MICROSECOND)
        columns: dict[str, pa.Array] = {PROFILE: pa.array([bid.profile_id for bid in bids], TEXT)}
        for family in families():
            columns |= rows.joined(family, family.compute(rows.tables(family), span, self.encoder))
        return pa.table(columns)

    def close(self) -> None:
        """Close the connections."""
        self.lookup.close()
