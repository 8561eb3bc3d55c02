"""Feature family: the embedding of the bid's text."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from bid_assets.common.windows import TimeRange
from bid_assets.features.family import VECTOR, Encoder, Feature, FeatureFamily, RawTables, bids_in_span
from bid_assets.features.inputs import BidContext, Vector


def compute_table(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`."""
    assert encoder is not None
    bids = bids_in_span(tables["raw_bids"].select(["id", "submitted_at", "generated_bid_text"]), span)
    vectors = encoder.encode(bids["generated_bid_text"])
    return FAMILY.table(bids["id"], bids["submitted_at"], {"bid_text_embedding": vectors})


def compute_rows(bids: Sequence[BidContext], encoder: Encoder | None) -> list[dict[str, Vector | None]]:
    """The features of each bid, in order."""
    assert encoder is not None
    return [{"bid_text_embedding": vector} for vector in encoder.vectors([bid.text for bid in bids])]


FAMILY = FeatureFamily(
    name="bid_text_embeddings",
    description="The embedding of each bid's text; missing where the text is empty.",
    key="bid_id",
    reads=("raw_bids",),
    features=(Feature("bid_text_embedding", VECTOR, "embedding of the bid's text, length 1"),),
    compute_table=compute_table,
    compute_rows=compute_rows,
    needs_encoder=True,
)
