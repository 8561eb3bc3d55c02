"""Feature family: the embedding of the job's title and description."""

from __future__ import annotations

from bid_assets.features.embeddings.definition import embedding_family
from bid_assets.features.inputs import BidContext


def text_of(bid: BidContext) -> str | None:
    """Title and description of the bid's job."""
    return None if bid.job is None else f"{bid.job['title'] or ''}\n{bid.job['description'] or ''}"


FAMILY = embedding_family(
    name="job_description_embeddings",
    description="The embedding of each job's title and description; missing where both are empty.",
    key="job_id",
    feature="job_description_embedding",
    meaning="embedding of title and description, length 1",
    text_of=text_of,
)
