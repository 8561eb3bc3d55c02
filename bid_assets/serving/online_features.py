"""Features of bids to be, by the families that training uses, over the application's database as of each bid's time.

Nothing of a feature is computed here. A few bids are put to the families as plain values (`feature_inputs.py`), many as the raw
tables that the families would see of past bids (`synthetic_raw_tables.py`). What is served equals what was trained on, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any

import pyarrow as pa

from bid_assets.app_db.contract import TEXT
from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.point_lookup import LookupResult, PointLookup
from bid_assets.common.windows import TimeRange, as_utc, microseconds_since_epoch
from bid_assets.features.embeddings.encoder import CachedEncoder, make_encoder
from bid_assets.features.family import VECTOR, FeatureFamily
from bid_assets.features.inputs import OneBid
from bid_assets.features.registry import families
from bid_assets.modelling.estimators.column_encoders import PROFILE
from bid_assets.serving.bid_requests import BidRequest
from bid_assets.serving.feature_inputs import plain_bids
from bid_assets.serving.freshness import TERMS, missing, newest_outcomes
from bid_assets.serving.synthetic_raw_tables import RawRows
from bid_assets.settings import Settings

FEW = 256
"""Up to so many bids are looked at one by one; more as columns, which then take less time for each."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class OnlineBatch:
    """Features of some bids, in their order."""

    values: pa.Table | list[dict[str, Any]]
    """Who bids, and the features (embeddings where they were asked for): a table or, of a few bids, plain values by name (vectors as arrays); null where something is unknown."""
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
        self.lookup = PointLookup(app_db_url(settings), seconds=settings.serving_lookup_seconds)
        self._back = timedelta(days=max(family.lookback_days for family in families()))
        self._few = FEW if all(family.of_few is not None for family in families()) else 0
        self._settings = settings
        self._encoder: CachedEncoder | None = None

    @property
    def encoder(self) -> CachedEncoder:
        """Made when it is first used: many models read no embedding. Raises `EncoderUnavailable`."""
        if self._encoder is None:
            settings = self._settings
            self._encoder = make_encoder(settings.encoder, settings.home, settings.resolved_encoder_cache)
        return self._encoder

    @property
    def hits(self) -> int:
        """Texts whose embedding was known when it was looked up."""
        return 0 if self._encoder is None else self._encoder.hits

    @property
    def misses(self) -> int:
        """Texts that had to be encoded."""
        return 0 if self._encoder is None else self._encoder.misses

    def features(self, bids: Sequence[BidRequest], *, embeddings: bool = True) -> OnlineBatch:
        """The features of `bids`, with one look-up however many they are; without `embeddings` no text is encoded.

        Raises as `PointLookup.fetch`, and `EncoderUnavailable`.
        """
        computed = [family for family in families() if embeddings or not family.needs_encoder]
        now = datetime.now(UTC)
        times = [now if bid.at is None else as_utc(bid.at) for bid in bids]
        found = self.lookup.fetch(
            sorted({bid.profile_id for bid in bids}),
            sorted({bid.job_id for bid in bids if bid.job_id is not None and bid.job is None}),
            min(times) - self._back,
            max(times) + _MICROSECOND,
            sorted({bid.job.client_id for bid in bids if bid.job is not None and bid.job.client_id is not None}),
        )
        at = [microseconds_since_epoch(moment) for moment in times]
        if len(bids) <= self._few:
            rows = self._one_by_one(computed, bids, plain_bids(bids, at, found))
            known: list[dict[str, Any]] = rows
        else:
            rows = self._by_columns(computed, bids, times, found)
            known = rows.select(["bids_90d", *TERMS]).to_pylist()
        unknown = missing(bids, at, found, known)
        schema = _schema(self.encoder.dimension if embeddings else None)
        return OnlineBatch(rows, schema, unknown, times, newest_outcomes(bids, at, found))

    def _one_by_one(
        self, computed: Sequence[FeatureFamily], asked: Sequence[BidRequest], bids: Sequence[OneBid]
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{PROFILE: bid.profile_id} for bid in asked]
        for family in computed:
            assert family.of_few is not None
            for row, features in zip(rows, family.of_few(bids, self._encoder_of(family)), strict=True):
                row |= features
        return rows

    def _by_columns(
        self, computed: Sequence[FeatureFamily], bids: Sequence[BidRequest], times: Sequence[datetime], found: LookupResult
    ) -> pa.Table:
        rows = RawRows(bids, times, found, self._cadence)
        span = TimeRange(self._cadence.floor(min(times)), max(times) + _MICROSECOND)
        columns: dict[str, pa.Array] = {PROFILE: pa.array([bid.profile_id for bid in bids], TEXT)}
        for family in computed:
            columns |= rows.joined(family, family.compute(rows.tables(family), span, self._encoder_of(family)))
        return pa.table(columns)

    def _encoder_of(self, family: FeatureFamily) -> CachedEncoder | None:
        return self.encoder if family.needs_encoder else None

    def close(self) -> None:
        """Close the connections."""
        self.lookup.close()


@cache
def _schema(dimension: int | None) -> pa.Schema:
    """The profile, and the features by name, with the types of the store: embeddings of this dimension, or none."""
    features = [(each.name, each.type) for family in families() for each in family.features]
    if dimension is None:
        return pa.schema([(PROFILE, TEXT), *((name, kind) for name, kind in features if kind != VECTOR)])
    vector = pa.list_(pa.float32(), dimension)
    return pa.schema([(PROFILE, TEXT), *((name, vector if kind == VECTOR else kind) for name, kind in features)])
