"""The two families of embeddings: which texts are encoded, and for which rows."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from bid_assets.app_db import contract
from bid_assets.common.windows import TimeRange
from bid_assets.features.embeddings.encoder import CachedEncoder
from bid_assets.features.families import bid_embedding, job_embedding
from bid_assets_tests.features.tables import START, bids_table, table_of

WEEK = timedelta(weeks=1)
FIRST_WEEK = TimeRange(START, START + WEEK)
TWO_WEEKS = TimeRange(START, START + 2 * WEEK)


class Asked:
    """An encoder that writes down the texts that it is given."""

    fingerprint = "asked"
    dimension = 2

    def __init__(self) -> None:
        self.texts: list[str | None] = []

    def encode(self, texts: pa.ChunkedArray | pa.Array) -> pa.FixedSizeListArray:
        self.texts += texts.to_pylist()
        return pa.array(
            [[len(text), 1] if text and text.strip() else None for text in texts.to_pylist()], pa.list_(pa.float32(), 2)
        )


def jobs(*rows: tuple[int, str, str | None, str | None]) -> dict[str, pa.Table]:
    """Raw jobs from (week, id, title, description)."""
    return {
        "raw_jobs": table_of(
            contract.RAW_JOBS,
            [
                {"window": START + week * WEEK, "id": job, "title": title, "description": text}
                for week, job, title, text in rows
            ],
        )
    }


def test_a_jobs_text_is_its_title_a_new_line_and_its_description() -> None:
    encoder = Asked()
    job_embedding.FAMILY.compute_table(
        jobs((0, "a", "Title", "What to do"), (0, "b", "Title", None), (0, "c", None, "Text")), FIRST_WEEK, encoder
    )
    assert encoder.texts == ["Title\nWhat to do", "Title\n", "\nText"]


def test_a_job_without_title_and_description_has_no_vector(encoder: CachedEncoder) -> None:
    tables = jobs((0, "a", None, None), (0, "b", " ", ""), (0, "c", None, "Text"))
    vectors = job_embedding.FAMILY.compute_table(tables, FIRST_WEEK, encoder)["job_description_embedding"]
    assert vectors.is_null().to_pylist() == [True, True, False]


def test_there_is_one_row_per_window_and_job_of_the_span_sorted_by_window_and_job() -> None:
    tables = jobs((1, "b", "1", None), (1, "a", "2", None), (0, "b", "3", None), (2, "a", "4", None), (-1, "a", "5", None))
    table = job_embedding.FAMILY.compute_table(tables, TWO_WEEKS, Asked())
    assert list(zip(table["window"].to_pylist(), table["job_id"].to_pylist(), strict=True)) == [
        (START, "b"),
        (START + WEEK, "a"),
        (START + WEEK, "b"),
    ]


def test_a_bids_vector_is_that_of_its_text(encoder: CachedEncoder) -> None:
    texts: list[object] = ["the same words", None, "  ", "other words", "the same words"]
    bids = bids_table(
        [(name, "p", hour) for name, hour in zip("edcba", (5, 4, 3, 2, 1), strict=True)], generated_bid_text=texts
    )
    table = bid_embedding.FAMILY.compute_table({"raw_bids": bids}, FIRST_WEEK, encoder)
    vectors = dict(zip(table["bid_id"].to_pylist(), table["bid_text_embedding"].to_pylist(), strict=True))
    assert list(vectors) == ["a", "b", "c", "d", "e"]
    assert vectors["a"] == vectors["e"] != vectors["b"]
    assert vectors["c"] is None
    assert vectors["d"] is None


def test_texts_of_bids_outside_the_span_are_not_encoded() -> None:
    encoder = Asked()
    hours = (-1, 0, 167, 168)
    bids = bids_table([(f"b{hour}", "p", hour) for hour in hours], generated_bid_text=[f"text {hour}" for hour in hours])
    table = bid_embedding.FAMILY.compute_table({"raw_bids": bids}, FIRST_WEEK, encoder)
    assert table["bid_id"].to_pylist() == ["b0", "b167"]
    assert encoder.texts == ["text 0", "text 167"]


@pytest.mark.parametrize("rows", [0, 3])
def test_vectors_are_fixed_size_lists_of_the_encoders_length_also_where_there_are_no_rows(
    encoder: CachedEncoder, rows: int
) -> None:
    bids = bids_table([(f"b{row}", "p", row) for row in range(rows)], generated_bid_text=["words"] * rows)
    tables = {"raw_bids": bids, **jobs(*[(0, f"j{row}", "Title", None) for row in range(rows)])}
    for family in (bid_embedding.FAMILY, job_embedding.FAMILY):
        table = family.compute_table(tables, FIRST_WEEK, encoder)
        assert table.num_rows == rows
        assert table.schema.field(family.features[0].name).type == pa.list_(pa.float32(), encoder.dimension)
