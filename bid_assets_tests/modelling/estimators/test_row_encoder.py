"""Rows of plain values are encoded as tables are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.features.family import NAMED_NUMBERS
from bid_assets.modelling.estimators import column_encoders
from bid_assets.modelling.estimators.row_encoder import RowEncoder
from bid_assets.modelling.model import BidSuccessModel


def test_property_a_row_alone_is_encoded_as_in_its_table(model: BidSuccessModel, dataset: pa.Table) -> None:
    rows = dataset.select(model.feature_schema.names).slice(0, 300)
    whole = column_encoders.encode(rows, model.encoders)
    alone = np.concatenate([model.encode_rows([row]) for row in rows.to_pylist()])
    assert np.array_equal(whole, alone, equal_nan=True)


@given(st.one_of(st.none(), st.floats(), st.integers(-(2**62), 2**62), st.booleans()))
def test_property_any_number_is_encoded_alike(value: float | None) -> None:
    encoder = column_encoders.PassthroughEncoder("n", pa.float64())
    table = pa.table({"n": pa.array([None if value is None else float(value)], pa.float64())})
    expected = column_encoders.encode(table, [encoder])
    assert np.array_equal(RowEncoder([encoder])([{"n": value}]), expected, equal_nan=True)


@given(st.none() | st.dictionaries(st.sampled_from("abc"), st.none() | st.floats()))
def test_property_any_numbers_by_name_are_encoded_alike(values: dict[str, float | None] | None) -> None:
    encoder = column_encoders.NamedNumbersEncoder("n", NAMED_NUMBERS, ("b", "a"))
    row = None if values is None else [{"name": name, "value": value} for name, value in values.items()]
    expected = column_encoders.encode(pa.table({"n": pa.array([row], NAMED_NUMBERS)}), [encoder])
    assert np.array_equal(RowEncoder([encoder])([{"n": row}]), expected, equal_nan=True)


@pytest.mark.parametrize("value", ["text", 3, ["a"], {"a": 1}, [{"name": "a"}], [{"name": "a", "value": "x"}]])
def test_what_are_no_numbers_by_name_is_refused(value: object) -> None:
    with pytest.raises(column_encoders.ColumnMismatchError, match="column 'n' is list"):
        RowEncoder([column_encoders.NamedNumbersEncoder("n", NAMED_NUMBERS, ("a",))])([{"n": value}])


@pytest.mark.parametrize("value", ["text", ["a"], {"a": 1}])
def test_a_value_of_another_kind_is_refused_by_name(value: object) -> None:
    with pytest.raises(column_encoders.ColumnMismatchError, match="column 'n' is double"):
        RowEncoder([column_encoders.PassthroughEncoder("n", pa.float64())])([{"n": value}])


def test_a_text_where_a_list_is_wanted_is_refused() -> None:
    with pytest.raises(column_encoders.ColumnMismatchError, match="a list of texts is expected"):
        RowEncoder([column_encoders.MultiHotEncoder("s", pa.list_(pa.string()), ("sql",))])([{"s": "sql"}])
