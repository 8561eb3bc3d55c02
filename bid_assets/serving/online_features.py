"""Online features: those of requested bids, by the families that training uses, over the application's database as of each bid.

Nothing of a feature is computed here: the families are given the bids as plain values (`feature_inputs.py`). Online equals
offline, bit for bit.
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
from bid_assets.app_db.point_lookup import PointLookup
from bid_assets.common.windows import MICROSECOND, as_utc, microseconds_since_epoch
from bid_assets.features.embeddings.encoder import CachedEncoder, make_encoder
from bid_assets.features.family import VECTOR, FeatureFamily
from bid_assets.features.registry import families
from bid_assets.modelling.estimators.column_encoders import PROFILE_COLUMN
from bid_assets.serving.bid_requests import BidRequest
from bid_assets.serving.feature_inputs import build_contexts
from bid_assets.serving.freshness import missing_inputs, newest_outcomes
from bid_assets.settings import Settings


@dataclass(frozen=True)
class OnlineBatch:
    """Features of some bids, in their order."""

    rows: list[dict[str, Any]]
    """Profile and features by name, embeddings where requested (as arrays); None where something is unknown."""
    schema: pa.Schema
    missing: list[list[str]]
    """What was missing, in words, for each bid."""
    as_of: list[datetime]
    newest_outcome: list[datetime | None]
    """The newest outcome of the profile known at `as_of`."""

    @cached_property
    def table(self) -> pa.Table:
        """The features as a table, with the columns and types of the store."""
        return pa.Table.from_pylist(self.rows, schema=self.schema)


class OnlineFeatures:
    """Computes features for the prediction service. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self.lookup = PointLookup(app_db_url(settings), seconds=settings.serving_lookup_seconds)
        self._max_lookback = timedelta(days=max(family.lookback_days for family in families()))
        self._settings = settings
        self._encoder: CachedEncoder | None = None

    @property
    def encoder(self) -> CachedEncoder:
        """The encoder, loaded on first use: many models read no embedding. Raises `EncoderUnavailableError`."""
        if self._encoder is None:
            settings = self._settings
            self._encoder = make_encoder(settings.encoder, settings.home, settings.resolved_encoder_cache)
        return self._encoder

    @property
    def hits(self) -> int:
        """Texts whose embedding was cached."""
        return 0 if self._encoder is None else self._encoder.hits

    @property
    def misses(self) -> int:
        """Texts that had to be encoded."""
        return 0 if self._encoder is None else self._encoder.misses

    def features(self, bids: Sequence[BidRequest], *, embeddings: bool = True) -> OnlineBatch:
        """The features of `bids`, with one look-up however many they are; without `embeddings` no text is encoded.

        Raises as `PointLookup.fetch`, and `EncoderUnavailableError`.
        """
        now = datetime.now(UTC)
        times = [now if bid.at is None else as_utc(bid.at) for bid in bids]
        lookup = self.lookup.fetch(
            sorted({bid.profile_id for bid in bids}),
            sorted({bid.job_id for bid in bids if bid.job_id is not None and bid.job is None}),
            min(times) - self._max_lookback,
            max(times) + MICROSECOND,
            sorted({bid.job.client_id for bid in bids if bid.job is not None and bid.job.client_id is not None}),
        )
        at = [microseconds_since_epoch(each) for each in times]
        contexts = build_contexts(bids, at, lookup)
        rows: list[dict[str, Any]] = [{PROFILE_COLUMN: bid.profile_id} for bid in bids]
        for family in families():
            if embeddings or not family.needs_encoder:
                for row, features in zip(rows, family.compute_rows(contexts, self._encoder_of(family)), strict=True):
                    row |= features
        schema = _schema(self.encoder.dimension if embeddings else None)
        missing = missing_inputs(bids, at, lookup, rows)
        return OnlineBatch(rows, schema, missing, times, newest_outcomes(bids, at, lookup))

    def _encoder_of(self, family: FeatureFamily) -> CachedEncoder | None:
        return self.encoder if family.needs_encoder else None

    def close(self) -> None:
        """Close the connections."""
        self.lookup.close()


@cache
def _schema(dimension: int | None) -> pa.Schema:
    """Profile and features with the types of the store; embeddings of this dimension, or none."""
    features = [(each.name, each.type) for family in families() for each in family.features]
    if dimension is None:
        return pa.schema([(PROFILE_COLUMN, TEXT), *((name, kind) for name, kind in features if kind != VECTOR)])
    vector = pa.list_(pa.float32(), dimension)
    return pa.schema([(PROFILE_COLUMN, TEXT), *((name, vector if kind == VECTOR else kind) for name, kind in features)])
