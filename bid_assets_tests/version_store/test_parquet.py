from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bid_assets.version_store.content_hash import table_hash
from bid_assets.version_store.manifest import Draft, Manifest
from bid_assets.version_store.parquet import WindowedTable, write_parquet, write_parts
from bid_assets.version_store.store import CorruptVersionError, VersionStore

WINDOWS = [f"2026-{month:02}-01" for month in range(1, 13)]
SCHEMA = pa.schema([("bid_id", pa.string()), ("n", pa.int64())])


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


def write(store: VersionStore, window: str, table: pa.Table) -> Manifest:
    return store.write(Draft("t", window, "parquet", table_hash(table)), lambda path: write_parquet(table, path)).manifest


def window_table(store: VersionStore, schema: pa.Schema | None = None) -> WindowedTable:
    return WindowedTable(store, "t", WINDOWS, store.heads("t", WINDOWS), schema)


def rows(window: str) -> pa.Table:
    first = WINDOWS.index(window) * 100
    return pa.table({"bid_id": [f"b{n}" for n in range(first, first + 100)], "n": range(first, first + 100)}, schema=SCHEMA)


def test_windows_are_read_as_one_table_in_their_order(store: VersionStore) -> None:
    for window in reversed(WINDOWS):
        write(store, window, rows(window))
    table = window_table(store).read()
    assert table.equals(pa.concat_tables([rows(window) for window in WINDOWS]))
    assert table["n"].to_pylist() == list(range(1200))


def test_columns_are_chosen_on_reading_and_come_in_the_order_asked_for(store: VersionStore) -> None:
    write(store, WINDOWS[0], rows(WINDOWS[0]))
    assert window_table(store).read(["n"]).equals(rows(WINDOWS[0]).select(["n"]))
    assert window_table(store).read(["n", "bid_id"]).column_names == ["n", "bid_id"]
    assert window_table(store).read([]).num_columns == 0


def test_columns_can_be_chosen_by_the_schema_of_what_is_stored(store: VersionStore) -> None:
    write(store, WINDOWS[0], rows(WINDOWS[0]))
    integers = window_table(store).read(lambda schema: [field.name for field in schema if pa.types.is_integer(field.type)])
    assert integers.equals(rows(WINDOWS[0]).select(["n"]))


def test_a_column_that_is_not_there_is_an_error_that_says_what_there_is(store: VersionStore) -> None:
    write(store, WINDOWS[0], rows(WINDOWS[0]))
    with pytest.raises(ValueError, match="t has no column amount; it has bid_id, n"):
        window_table(store).read(["n", "amount"])


def test_missing_windows_are_named_and_the_others_are_pinned_when_made(store: VersionStore) -> None:
    old = write(store, WINDOWS[1], rows(WINDOWS[1]))
    table = window_table(store)
    write(store, WINDOWS[1], rows(WINDOWS[2]))
    write(store, WINDOWS[0], rows(WINDOWS[0]))
    assert table.missing == (WINDOWS[0], *WINDOWS[2:])
    assert table.manifests == (old,)
    assert table.read().equals(rows(WINDOWS[1]))


def test_no_window_at_all_gives_no_rows_but_the_columns_of_the_schema(store: VersionStore) -> None:
    assert window_table(store, SCHEMA).read().equals(SCHEMA.empty_table())
    assert window_table(store, SCHEMA).read(["n"]).equals(SCHEMA.empty_table().select(["n"]))
    assert window_table(store).read(["n"]).num_rows == 0
    with pytest.raises(ValueError, match="no column amount"):
        window_table(store, SCHEMA).read(["amount"])


def test_windows_with_other_columns_are_an_error_that_names_window_and_column(store: VersionStore) -> None:
    write(store, WINDOWS[0], rows(WINDOWS[0]).append_column("extra", pa.nulls(100)))
    write(store, WINDOWS[1], rows(WINDOWS[1]))
    with pytest.raises(ValueError, match=rf"window {WINDOWS[0]} has other columns than window {WINDOWS[1]} \(extra: null\)"):
        window_table(store).read()
    assert window_table(store).read(["n"]).num_rows == 200


def test_every_window_is_verified_on_reading(store: VersionStore) -> None:
    manifests = [write(store, window, rows(window)) for window in WINDOWS[:3]]
    file = store.fetch(manifests[1])
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptVersionError, match=manifests[1].file):
        window_table(store).read(["n"])


def test_numbers_and_vectors_are_split_into_streams_and_texts_into_dictionaries(tmp_path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(8, np.float32)), 4)
    table = pa.table({"x": [0.5, None], "v": vectors, "s": ["a", None], "l": [["a"], None], "n": [1, 2]})
    write_parquet(table, tmp_path / "t.parquet")
    group = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0)
    columns = {group.column(i).path_in_schema.split(".")[0]: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    split = {name for name, column in columns.items() if "BYTE_STREAM_SPLIT" in column.encodings}
    dictionaries = {name for name, column in columns.items() if "RLE_DICTIONARY" in column.encodings}
    assert (split, dictionaries) == ({"x", "v"}, {"s", "l"})


def test_missing_vectors_and_field_metadata_survive_a_file(tmp_path: Path) -> None:
    kind = pa.list_(pa.float32(), 2)
    schema = pa.schema([pa.field("v", kind, metadata={"volatile": "true"}), pa.field("s", pa.struct([("a", pa.float64())]))])
    table = pa.table({"v": pa.array([[1, 2], None, [3, 4]], kind), "s": [{"a": 1.0}, None, {"a": None}]}, schema=schema)
    write_parquet(table, tmp_path / "t.parquet")
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.equals(table)
    assert back.schema.field("v").metadata == schema.field("v").metadata


def test_a_table_written_part_by_part_is_the_table_written_at_once(tmp_path: Path) -> None:
    parts = [rows(window) for window in WINDOWS]
    whole = pa.concat_tables(parts)
    found = write_parts(parts, tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").equals(whole)
    assert (found.schema, found.num_rows, found.content_hash) == (SCHEMA, 1200, table_hash(whole))
    with pytest.raises(ValueError, match=r"the parts of one table have different columns \(extra: null\)"):
        write_parts([rows(WINDOWS[0]), rows(WINDOWS[1]).append_column("extra", pa.nulls(100))], tmp_path / "u.parquet")


def test_some_of_the_windows_have_the_columns_of_all(store: VersionStore) -> None:
    for window in WINDOWS[:2]:
        write(store, window, rows(window))
    table = window_table(store)
    assert table.select_windows(WINDOWS[1:3]).read().equals(rows(WINDOWS[1]))
    assert table.select_windows(WINDOWS[1:3]).missing == (WINDOWS[2],)
    assert table.select_windows(WINDOWS[5:]).read().equals(SCHEMA.empty_table())
