"""What a bid says: the embedding of its text."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from bid_assets.common.windows import TimeRange
from bid_assets.features.family import VECTOR, Encoder, Feature, FeatureFamily, RawTables, bids_of
from bid_assets.features.inputs import OneBid, Vector


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`."""
    assert encoder is not None
    bids = bids_of(tables["raw_bids"].select(["id", "submitted_at", "generated_bid_text"]), span)
    vectors = encoder.encode(bids["generated_bid_text"])
    return FAMILY.table(bids["id"], bids["submitted_at"], {"bid_text_embedding": vectors})


def of_few(bids: Sequence[OneBid], encoder: Encoder | None) -> list[dict[str, Vector | None]]:
    """The same of a few bids."""
    assert encoder is not None
    return [{"bid_text_embedding": vector} for vector in encoder.vectors([bid.text for bid in bids])]


FAMILY = FeatureFamily(
    name="bid_text_embeddings",
    description="The embedding of each bid's text; missing where the text is empty.",
    key="bid_id",
    reads=("raw_bids",),
    features=(Feature("bid_text_embedding", VECTOR, "embedding of the bid's text, length 1"),),
    compute=compute,
    of_few=of_few,
    needs_encoder=True,
)
