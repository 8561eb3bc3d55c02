"""Feature family: the embedding of the job's title and description."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.windows import TimeRange
from bid_assets.features.family import VECTOR, Encoder, Feature, FeatureFamily, RawTables, jobs_in_span
from bid_assets.features.inputs import BidContext, Vector


def compute_table(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per window in `span` and job that its bids name."""
    assert encoder is not None
    jobs = jobs_in_span(tables["raw_jobs"].select(["id", "window", "title", "description"]), span)
    text = pc.binary_join_element_wise(jobs["title"], jobs["description"], "\n", null_handling="replace", null_replacement="")
    return FAMILY.table(jobs["id"], jobs["window"], {"job_description_embedding": encoder.encode(text)})


def compute_rows(bids: Sequence[BidContext], encoder: Encoder | None) -> list[dict[str, Vector | None]]:
    """The features of each bid's job, in order."""
    assert encoder is not None
    texts = [None if bid.job is None else f"{bid.job['title'] or ''}\n{bid.job['description'] or ''}" for bid in bids]
    return [{"job_description_embedding": vector} for vector in encoder.vectors(texts)]


FAMILY = FeatureFamily(
    name="job_description_embeddings",
    description="The embedding of each job's title and description; missing where both are empty.",
    key="job_id",
    reads=("raw_jobs",),
    features=(Feature("job_description_embedding", VECTOR, "embedding of title and description, length 1"),),
    compute_table=compute_table,
    compute_rows=compute_rows,
    needs_encoder=True,
)
