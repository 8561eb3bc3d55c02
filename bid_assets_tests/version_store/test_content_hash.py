from __future__ import annotations

import pickle
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.version_store.content_hash import VOLATILE, plain_hash, table_hash
from bid_assets.version_store.parquet import write_parquet
from bid_assets.version_store.plain_json import json_hash

SCHEMA = pa.schema(
    [
        ("number", pa.float64()),
        ("count", pa.int32()),
        ("flag", pa.bool_()),
        ("text", pa.string()),
        ("texts", pa.list_(pa.string())),
        ("vector", pa.list_(pa.float32(), 2)),
        ("time", pa.timestamp("us", tz="UTC")),
    ]
)
rows = st.fixed_dictionaries(
    {
        "number": st.none() | st.floats(width=32),
        "count": st.none() | st.integers(-9, 9),
        "flag": st.none() | st.booleans(),
        "text": st.none() | st.text(max_size=3),
        "texts": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=2),
        "vector": st.none() | st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=2),
        "time": st.none() | st.integers(0, 10**15),
    }
)
tables = st.lists(rows, max_size=6).map(lambda found: pa.Table.from_pylist(found, schema=SCHEMA))


@given(tables, st.integers(0, 6))
def test_chunks_slices_and_dictionaries_do_not_matter(table: pa.Table, cut: int) -> None:
    pieces = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    padded = pa.concat_tables([table, table]).combine_chunks().slice(0, table.num_rows)
    assert table_hash(pieces) == table_hash(padded) == table_hash(table)


@given(tables)
def test_encodings_and_widths_of_offsets_do_not_matter(table: pa.Table) -> None:
    text, texts = table["text"], table["texts"]
    runs = pa.chunked_array([pc.run_end_encode(table["count"].combine_chunks())])
    other = (
        table.set_column(1, "count", runs)
        .set_column(3, "text", text.dictionary_encode())
        .set_column(4, "texts", texts.cast(pa.large_list(pa.large_string())))
    )
    assert table_hash(other) == table_hash(table)
    assert table_hash(table.set_column(3, "text", text.cast(pa.large_string()))) == table_hash(table)
    assert table_hash(table.set_column(3, "text", text.cast(pa.string_view()))) == table_hash(table)


@given(tables)
def test_a_trip_through_parquet_does_not_matter(tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> None:
    path = Path(tmp_path_factory.mktemp("hash")) / "t.parquet"
    write_parquet(table, path)
    assert table_hash(pq.read_table(path)) == table_hash(table)


@given(tables, rows, st.data())
def test_any_other_cell_gives_another_hash(table: pa.Table, row: dict[str, object], data: st.DataObject) -> None:
    if not table.num_rows:
        return
    place, name = data.draw(st.integers(0, table.num_rows - 1)), data.draw(st.sampled_from(SCHEMA.names))
    changed = table.to_pylist()
    changed[place][name] = pa.array([row[name]], SCHEMA.field(name).type)[0].as_py()
    other = pa.Table.from_pylist(changed, schema=SCHEMA)
    same = repr(table[name][place]).replace("-0.0", "0.0") == repr(other[name][place]).replace("-0.0", "0.0")
    assert (table_hash(other) == table_hash(table)) == same


def test_names_types_order_and_missing_values_matter() -> None:
    variants = [
        pa.table({"a": [1, 2]}),
        pa.table({"b": [1, 2]}),
        pa.table({"a": [2, 1]}),
        pa.table({"a": [1.0, 2.0]}),
        pa.table({"a": pa.array([1, 2], pa.int32())}),
        pa.table({"a": [1, None]}),
        pa.table({"a": [1.0, float("nan")]}),
        pa.table({"a": pa.array([1.0, None])}),
        pa.table({"a": [1, 0]}),
        pa.table({"a": pa.array([], pa.int64())}),
        pa.table({"a": ["12", ""]}),
        pa.table({"a": ["1", "2"]}),
        pa.table({"a": [["x"], []]}),
        pa.table({"a": [["x"], None]}),
        pa.table({"a": [["x", None], None]}),
        pa.table({"a": [["1"], ["2"]]}),
        pa.table({"a": [["1", "2"], []]}),
        pa.table({"a": [[], ["1", "2"]]}),
        pa.table({"a": [b"1", b"2"]}),
        pa.table({"a": [{"x": 1}, {"x": 2}]}),
        pa.table({"a": [{"y": 1}, {"y": 2}]}),
        pa.table({"a": [{"x": 1}, None]}),
        pa.table({"a": [{"x": 1}, {"x": None}]}),
        pa.table({"a": pa.array([[1.0], [2.0]], pa.list_(pa.float64(), 1))}),
        pa.table({"a": pa.array([[1.0], [2.0]], pa.list_(pa.float64()))}),
        pa.table({"a": pa.array([1, 2], pa.timestamp("us"))}),
        pa.table({"a": pa.array([1, 2], pa.timestamp("us", "UTC"))}),
        pa.table({"a": pa.array([Decimal("1.0"), Decimal("2.0")])}),
        pa.table({"a": pa.array([Decimal("1.0"), Decimal("2.1")])}),
        pa.table({"a": pa.array([b"1", b"2"], pa.binary(1))}),
        pa.table({"a": [True, False]}),
        pa.table({"a": [True, None]}),
        pa.table({"a": pa.nulls(2)}),
        pa.table({"a": pa.nulls(2, pa.int64())}),
        pa.table({"a": [1, 2], "b": [3, 4]}),
        pa.table({"b": [3, 4], "a": [1, 2]}),
        pa.table({}),
    ]
    assert len({table_hash(table) for table in variants}) == len(variants)


def test_all_nans_are_one_and_so_are_both_zeros() -> None:
    bits = np.array([0x7FF8000000000000, 0x7FF8000000000001, 0xFFF8000000000000], dtype=np.uint64)
    hashes = {table_hash(pa.table({"a": np.array([each]).view(np.float64)})) for each in bits}
    assert len(hashes) == 1
    assert table_hash(pa.table({"a": [0.0]})) == table_hash(pa.table({"a": [-0.0]}))


def test_what_lies_under_a_null_does_not_matter() -> None:
    one, other = (pa.array([1.0, hidden], mask=np.array([False, True])) for hidden in (5.0, 7.0))
    assert table_hash(pa.table({"a": one})) == table_hash(pa.table({"a": other}))


def test_a_table_without_gaps_keeps_its_hash_through_pandas() -> None:
    table = pa.table({"n": [1, 2], "x": [0.5, -1.0], "s": ["a", "b"], "t": pa.array([1, 2], pa.timestamp("us", "UTC"))})
    back = pa.Table.from_pandas(table.to_pandas(), preserve_index=False)
    assert table_hash(back) == table_hash(table)


def test_pandas_takes_missing_for_nan_and_so_changes_the_hash() -> None:
    table = pa.table({"n": pa.array([1, None])})
    assert table_hash(pa.Table.from_pandas(table.to_pandas(), preserve_index=False)) != table_hash(table)


def test_a_type_without_a_defined_hash_is_refused_by_column() -> None:
    table = pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))})
    with pytest.raises(TypeError, match="column 'm': no content hash is defined for the type map"):
        table_hash(table)


def test_a_volatile_column_is_no_part_of_the_content() -> None:
    schema = pa.schema([pa.field("n", pa.int64()), pa.field("cutoff", pa.int64(), metadata=VOLATILE)])
    one, other = (pa.table({"n": [1], "cutoff": [moment]}, schema=schema) for moment in (1, 2))
    assert table_hash(one) == table_hash(other)


def test_json_is_hashed_as_it_reads_back() -> None:
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    value = {2: (1, np.float64(0.5)), "at": moment, 10: float("nan")}
    assert json_hash(value) == json_hash({"10": None, "2": [1, 0.5], "at": "2026-01-05T00:00:00+00:00"})


def test_the_order_of_keys_does_not_matter_in_json() -> None:
    assert json_hash({"a": 1, "b": [2]}) == json_hash({"b": [2], "a": 1}) != json_hash({"a": 1, "b": [3]})


arrays = st.tuples(
    st.sampled_from(["<i8", ">i8", "<f4", "<f8", ">f8", "?", "u1"]),
    st.lists(st.integers(0, 1), max_size=4),
    st.booleans(),
).map(lambda drawn: np.array(drawn[1], dtype=drawn[0])[None if drawn[2] else slice(None)])
scalars = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([-1.0, -0.0, 0.0, 1.0, np.nan]) | st.text("a1", max_size=2)
)
contents = st.recursive(
    scalars | st.binary(max_size=2) | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


def spelled(content: object) -> object:
    """What a content says, with every type by name: equal where, and only where, contents are."""
    if isinstance(content, dict):
        return ("dict", frozenset((name, spelled(each)) for name, each in content.items()))
    if isinstance(content, list):
        return ("list", tuple(map(spelled, content)))
    if isinstance(content, np.ndarray):
        return ("array", content.dtype.kind, content.dtype.itemsize, content.shape, tuple(content.ravel().tolist()))
    return (type(content).__name__, "nan" if content != content else content)


@given(one=contents, other=contents)
def test_law_plain_contents_have_the_same_hash_if_and_only_if_they_are_the_same(one: object, other: object) -> None:
    assert (plain_hash(one) == plain_hash(other)) == (spelled(one) == spelled(other))


@given(content=st.dictionaries(st.text(max_size=2), contents))
def test_law_the_order_of_keys_and_a_trip_through_a_pickle_leave_the_plain_hash_as_it_is(content: dict[str, object]) -> None:
    assert plain_hash(dict(reversed(content.items()))) == plain_hash(content) == plain_hash(pickle.loads(pickle.dumps(content)))


def test_plain_values_of_other_types_and_other_nesting_have_other_hashes() -> None:
    contents = [
        1,
        1.0,
        True,
        "1",
        b"1",
        None,
        "None",
        [],
        {},
        [1],
        [[1]],
        [1, 1],
        [[1], 1],
        [1, [1]],
        {"a": 1},
        {"a": {"b": 1}},
    ]
    contents += [
        {"a": {}, "b": 1},
        {"b": {}, "a": 1},
        ["ab", "c"],
        ["a", "bc"],
        np.ones(1),
        np.ones(1, int),
        np.ones((1, 1)),
        [1.0],
    ]
    assert len({plain_hash(each) for each in contents}) == len(contents)


def test_the_layout_of_an_array_does_not_matter() -> None:
    values = np.arange(6.0).reshape(2, 3)
    assert plain_hash(values) == plain_hash(np.asfortranarray(values)) == plain_hash(np.repeat(values, 2, axis=1)[:, ::2])
    assert plain_hash(values) == plain_hash(values.astype(">f8")) != plain_hash(values.T)


@pytest.mark.parametrize(
    "content", [(1,), {1: 1}, {"a": {2}}, np.float32(1), np.array(["a"]), np.array([None]), datetime.now(UTC)]
)
def test_what_is_not_plain_has_no_hash(content: object) -> None:
    with pytest.raises(TypeError, match=r"plain|no content hash"):
        plain_hash(content)
