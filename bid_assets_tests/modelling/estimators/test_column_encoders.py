from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bid_assets.features.family import NAMED_NUMBERS
from bid_assets.modelling.estimators.column_encoders import (
    ColumnMismatchError,
    EmbeddingLogit,
    NamedNumbersEncoder,
    encode,
    fit_encoders,
)
from bid_assets_tests.modelling.market import vectors


def fitted(table: pa.Table, size: int = 3) -> tuple:
    return fit_encoders(table, table.column_names, vocabulary_size=size)


def test_numbers_stay_as_they_are_and_missing_is_nan() -> None:
    table = pa.table({"x": [1.5, None, float("inf")], "n": pa.array([1, None, 3], pa.int8()), "b": [True, None, False]})
    expected = [[1.5, 1, 1], [np.nan, np.nan, np.nan], [np.nan, 3, 0]]
    np.testing.assert_array_equal(encode(table, fitted(table)), np.array(expected, dtype=np.float32))


def test_a_vocabulary_keeps_the_most_frequent_values_and_of_equals_the_first_in_the_alphabet() -> None:
    (vocabulary,) = fitted(pa.table({"kind": ["z", "z", "b", "a", "c", None]}))
    assert vocabulary.categories == ("z", "a", "b")
    assert vocabulary.names == ("kind=z", "kind=a", "kind=b")


def test_an_unknown_value_is_zeros_and_a_missing_one_is_nan_in_all_its_columns() -> None:
    known = fitted(pa.table({"kind": ["a", "b"]}))
    matrix = encode(pa.table({"kind": ["b", "never seen", None]}), known)
    np.testing.assert_array_equal(matrix, [[0, 1], [0, 0], [np.nan, np.nan]])


def test_a_list_marks_each_of_its_values_once_and_an_empty_one_is_not_missing() -> None:
    known = fitted(pa.table({"skills": [["a", "b"], ["a"]]}))
    matrix = encode(pa.table({"skills": [["b", "b", "a", None], [], None]}), known)
    np.testing.assert_array_equal(matrix, [[1, 1], [0, 0], [np.nan, np.nan]])


def named(*rows: dict[str, float | None] | None) -> pa.Table:
    values = [None if row is None else [{"name": name, "value": value} for name, value in row.items()] for row in rows]
    return pa.table({"signals": pa.array(values, NAMED_NUMBERS)})


def test_each_frequent_name_is_a_number_of_its_own_and_rare_names_are_not_learnt() -> None:
    table = named({"rating": 4.8, "age": 3}, {"rating": 2.2, "once": 1}, {"rating": 1, "age": 4, "b": 2}, {"b": 1}, None)
    (numbers,) = fitted(table, size=2)
    assert numbers.names == ("signals.rating", "signals.age")
    expected = [[4.8, 3], [2.2, np.nan], [1, 4], [np.nan, np.nan], [np.nan, np.nan]]
    np.testing.assert_array_equal(encode(table, (numbers,)), np.array(expected, dtype=np.float32))


def test_a_number_by_name_that_is_missing_unknown_or_not_finite_is_nan() -> None:
    known = (NamedNumbersEncoder("signals", NAMED_NUMBERS, ("a", "b")),)
    matrix = encode(named({"a": None, "never seen": 1}, {"a": np.inf, "b": 1e300}, {}).slice(0, 3), known)
    assert np.isnan(matrix).all()
    assert encode(named({"a": 1}, {"a": 2}).slice(1), known)[0, 0] == 2


def test_an_embedding_says_its_weighted_sum_and_a_missing_one_nothing() -> None:
    values, weight = np.random.default_rng(2).normal(size=(50, 4)), np.array([1.0, -2.0, 0.5, 0.0])
    missing = np.arange(50) % 5 == 0
    score = EmbeddingLogit("v", pa.list_(pa.float32(), 4), weight, 0.25)
    said = encode(pa.table({"v": vectors(values, missing)}), (score,))[:, 0]
    np.testing.assert_allclose(said[~missing], (values.astype(np.float32) @ weight - 0.25)[~missing], atol=1e-5)
    assert np.isnan(said[missing]).all()


def test_a_column_without_any_value_is_learnt_as_nothing() -> None:
    table = pa.table({"kind": pa.nulls(2, pa.string())})
    assert encode(table, fitted(table)).shape == (2, 0)


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    known = fitted(pa.table({"x": [1.0], "kind": ["a"]}))
    known += (EmbeddingLogit("v", pa.list_(pa.float32(), 4), np.ones(4), 0.0),)
    wrong = pa.table({"kind": [1], "v": vectors(np.zeros((1, 5)))})
    with pytest.raises(
        ColumnMismatchError, match=r"'x' is missing; column 'kind' is int64, not string; column 'v' is .*\[5\], not .*\[4\]"
    ):
        encode(wrong, known)


def test_a_type_that_cannot_be_a_feature_is_named() -> None:
    with pytest.raises(ColumnMismatchError, match="'when' is date32"):
        fitted(pa.table({"when": pa.array([0], pa.date32())}))


def test_encodings_read_dictionaries_and_large_strings_as_texts() -> None:
    known = fitted(pa.table({"kind": ["a", "b"]}))
    for column in (pa.array(["b"]).dictionary_encode(), pa.array(["b"], pa.large_string())):
        np.testing.assert_array_equal(encode(pa.table({"kind": column}), known), [[0, 1]])
