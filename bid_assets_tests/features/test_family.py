from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from bid_assets.app_db.contract import TIME
from bid_assets.common.windows import TimeRange
from bid_assets.features.family import VECTOR, Feature, FeatureFamily, span_mask
from bid_assets.features.mapping import RowDefinition
from bid_assets_tests.features.tables import START, at

FAMILY = FeatureFamily(
    name="made_up",
    description="Made up.",
    key="bid_id",
    reads=("raw_bids",),
    features=(Feature("count", pa.int32(), "a count"), Feature("vector", VECTOR, "a vector")),
    definition=RowDefinition(lambda bid: {}),
)
KEYS = pa.chunked_array([["b", "c", "a"]])
TIMES = pa.chunked_array([pa.array([START, START - timedelta(1), START], TIME)])


def test_a_table_has_key_and_time_then_the_features_as_declared_sorted_by_time_and_key() -> None:
    vectors = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))
    table = FAMILY.table(KEYS, TIMES, {"vector": vectors, "count": pa.array([1, None, 3], pa.int64())})
    assert table.column_names == FAMILY.schema.names == ["bid_id", "submitted_at", "count", "vector"]
    assert table["bid_id"].to_pylist() == ["c", "a", "b"]
    assert table["count"].to_pylist() == [None, 3, 1]
    assert table["vector"].to_pylist() == [None, [3.0, 4.0], [1.0, 2.0]]


def test_types_are_those_declared_and_a_vector_has_the_length_it_came_with() -> None:
    vectors = pa.array([None, None, None], pa.list_(pa.float32(), 5))
    table = FAMILY.table(KEYS, TIMES, {"vector": vectors, "count": pa.array([1, 2, 3], pa.int64())})
    assert table.schema.field("count").type == pa.int32()
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 5)
    assert FAMILY.schema.field("vector").type == VECTOR


def test_a_declared_feature_that_was_not_computed_is_an_error() -> None:
    with pytest.raises(KeyError, match="count"):
        FAMILY.table(KEYS, TIMES, {"vector": pa.nulls(3, VECTOR)})


def test_a_span_holds_its_start_and_not_its_end_to_the_microsecond() -> None:
    tick = timedelta(microseconds=1)
    moments = [at(1) - tick, at(1), at(2) - tick, at(2)]
    inside = span_mask(pa.chunked_array([pa.array(moments, TIME)]), TimeRange(at(1), at(2)))
    assert inside.tolist() == [False, True, True, False]
