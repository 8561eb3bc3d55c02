"""Hashes of logical content: what a table or a document says, however it is laid out in memory or on disk."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

VOLATILE = {b"volatile": b"true"}
"""Metadata of a field that is no part of the logical content, such as the moment at which a dataset was built."""


def json_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`: keys in order, no white space."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return hashlib.sha256(orjson.dumps(value, option=options)).hexdigest()


def table_hash(table: pa.Table) -> str:
    """SHA-256 of names, types, values and nulls, in order of rows.

    Independent of chunking, slicing, dictionary encoding and Parquet layout; every NaN counts as the same NaN, and -0.0
    as 0.0. Fields marked `VOLATILE` are left out.
    """
    digest = hashlib.sha256(str(table.num_rows).encode())
    for field, column in zip(table.schema, table.columns, strict=True):
        if (field.metadata or {}).get(b"volatile") == b"true":
            continue
        array = _plain(column)
        digest.update(f"\0{field.name}\0{_type_name(array.type)}\0".encode())
        _update(digest, array)
    return digest.hexdigest()


def _type_name(kind: pa.DataType) -> str:
    """The type without the names of list items, which a trip through Parquet changes."""
    if pa.types.is_fixed_size_list(kind):
        return f"list<{_type_name(kind.value_type)}>[{kind.list_size}]"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    return str(kind)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """One array without dictionary; large strings and lists as their ordinary kind where both mean the same."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type):
        array = array.cast(pa.string())
    return array


def _update(digest: Any, array: pa.Array) -> None:
    """Feed the nulls and values of `array`, recursing into lists and structs."""
    digest.update(np.packbits(pc.is_valid(array).to_numpy(zero_copy_only=False)))
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        _update(digest, array.flatten())  # leaves out null vectors, which the bits above have told of
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        digest.update(np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False).astype(np.int64)))
        _update(digest, array.flatten())
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            _update(digest, child)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        _update_bytes(digest, array)
    elif pa.types.is_null(kind):
        pass
    else:
        _update_numbers(digest, array)


def _update_bytes(digest: Any, array: pa.Array) -> None:
    filled = pc.fill_null(array, b"" if not pa.types.is_string(array.type) else "")
    digest.update(np.ascontiguousarray(pc.binary_length(filled).to_numpy(zero_copy_only=False).astype(np.int64)))
    packed = pa.concat_arrays([filled])  # drops what lies before and after a slice
    width = np.int64 if pa.types.is_large_binary(packed.type) else np.int32
    _, offsets, data = packed.buffers()
    if data is not None and len(packed):
        bounds = np.frombuffer(offsets, dtype=width)[packed.offset : packed.offset + len(packed) + 1]
        digest.update(memoryview(data)[int(bounds[0]) : int(bounds[-1])])


def _update_numbers(digest: Any, array: pa.Array) -> None:
    kind = array.type
    if pa.types.is_boolean(kind):
        values = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
        digest.update(np.packbits(values))
        return
    if pa.types.is_decimal(kind):
        digest.update("\0".join(str(value) for value in array.to_pylist()).encode())
        return
    if pa.types.is_temporal(kind):
        array = array.view(pa.int64() if kind.bit_width == 64 else pa.int32())
    values = (pc.fill_null(array, 0) if array.null_count else array).to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values + 0.0).astype(values.dtype)
    digest.update(np.ascontiguousarray(values))
