from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.versions.hashing import VOLATILE, json_hash, table_hash
from bid_assets.versions.tables import write_parquet

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
    encoded = table.set_column(3, "text", table["text"].dictionary_encode())
    assert table_hash(pieces) == table_hash(padded) == table_hash(table)
    assert table_hash(encoded) == table_hash(table)


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
    ]
    assert len({table_hash(table) for table in variants}) == len(variants)


def test_a_volatile_column_is_no_part_of_the_content() -> None:
    schema = pa.schema([pa.field("n", pa.int64()), pa.field("cutoff", pa.int64(), metadata=VOLATILE)])
    one, other = (pa.table({"n": [1], "cutoff": [moment]}, schema=schema) for moment in (1, 2))
    assert table_hash(one) == table_hash(other)


def test_the_order_of_keys_does_not_matter_in_json() -> None:
    assert json_hash({"a": 1, "b": [2]}) == json_hash({"b": [2], "a": 1}) != json_hash({"a": 1, "b": [3]})
