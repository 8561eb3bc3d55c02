"""The embedding of one text of each bid or job as a feature family: which text it is, is all that is to be said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from bid_assets.app_db.contract import TEXT
from bid_assets.common.windows import TimeRange
from bid_assets.features.family import VECTOR, Encoder, Feature, FeatureFamily, RawTables
from bid_assets.features.inputs import BidContext, FeatureRow
from bid_assets.features.mapping import map_columns


@dataclass(frozen=True)
class EmbeddingDefinition:
    """One feature, the embedding of `text_of(bid)`; missing where that is None or blank."""

    text_of: Callable[[BidContext], str | None]

    def compute_rows(self, family: FeatureFamily, bids: Sequence[BidContext], encoder: Encoder | None) -> list[FeatureRow]:
        """The feature of each bid, in order."""
        assert encoder is not None
        [feature] = family.features
        return [{feature.name: vector} for vector in encoder.vectors([self.text_of(bid) for bid in bids])]

    def compute_table(self, family: FeatureFamily, tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
        """The family's table."""
        assert encoder is not None
        [feature] = family.features
        key, time, texts = map_columns(
            family, tables, span, lambda bids: {feature.name: pa.array(map(self.text_of, bids), TEXT)}
        )
        return family.table(key, time, {feature.name: encoder.encode(texts[feature.name])})


def embedding_family(
    name: str,
    description: str,
    key: Literal["bid_id", "job_id"],
    feature: str,
    meaning: str,
    text_of: Callable[[BidContext], str | None],
) -> FeatureFamily:
    """The family of one embedding, of a bid's text or of a job's."""
    return FeatureFamily(
        name=name,
        description=description,
        key=key,
        reads=("raw_bids",) if key == "bid_id" else ("raw_jobs",),
        features=(Feature(feature, VECTOR, meaning),),
        definition=EmbeddingDefinition(text_of),
        needs_encoder=True,
    )
