"""Feature family: the embedding of the bid's text."""

from __future__ import annotations

from bid_assets.features.embeddings.definition import embedding_family

FAMILY = embedding_family(
    name="bid_text_embeddings",
    description="The embedding of each bid's text; missing where the text is empty.",
    key="bid_id",
    feature="bid_text_embedding",
    meaning="embedding of the bid's text, length 1",
    text_of=lambda bid: bid.text,
)
