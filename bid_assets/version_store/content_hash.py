"""Hashes of logical content: what a table or a document says, however it is laid out in memory or on disk."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

VOLATILE = {b"volatile": b"true"}
"""Metadata of a field that is no part of the logical content, such as the moment at which a dataset was built."""

_BLOCK = 1 << 16


def table_hash(table: pa.Table) -> str:
    """SHA-256 of a table's column names, types, values and nulls, in the order of columns and rows.

    Independent of chunking, slicing, dictionary or run-end encoding, 32 or 64 bit offsets and Parquet layout. Every NaN is
    the same NaN, and -0.0 is 0.0; NaN and null differ. Fields marked `VOLATILE` are left out. A trip through pandas keeps
    the hash only where pandas keeps the content: it takes null and NaN for one, and integers with nulls become floats.
    Raises `TypeError` for maps, unions and list views.
    """
    content = TableHasher(table.schema)
    content.add(table)
    return content.hash()


class TableHasher:
    """The content of a table that comes part by part, as `table_hash` knows it."""

    def __init__(self, schema: pa.Schema) -> None:
        self._rows = 0
        self._columns: list[tuple[int, str, Any, _ColumnHasher]] = []
        for place, field in enumerate(schema):
            if (field.metadata or {}).items() >= VOLATILE.items():
                continue
            try:
                self._columns.append((place, field.name, _type_name(field.type), _ColumnHasher()))
            except TypeError as error:
                raise TypeError(f"column {field.name!r}: {error}") from None

    def add(self, part: pa.Table) -> None:
        """The next rows."""
        self._rows += part.num_rows
        for place, _, _, content in self._columns:
            for chunk in part.column(place).chunks:
                content.add("", chunk)

    def hash(self) -> str:
        """The hash of all rows so far."""
        digest = hashlib.sha256(str(self._rows).encode())
        for _, name, type_, content in self._columns:
            digest.update(orjson.dumps([name, type_, content.digests()]))
        return digest.hexdigest()


def plain_hash(content: Any) -> str:
    """SHA-256 of nested dicts, lists, strings, bytes, numbers, bools, None and NumPy arrays: types and order count, order of
    dict keys does not.

    1, 1.0, True and "1" differ, and so do arrays of another type or shape; memory layout and byte order of an array do not
    count. Every NaN is the same NaN, and -0.0 is 0.0. Raises `TypeError` for a value of any other type, such as a tuple, and
    for keys that are no strings.
    """
    digest = hashlib.sha256()
    _add_plain(digest, content)
    return digest.hexdigest()


def _add_plain(digest: Any, content: Any) -> None:
    """What each value adds begins with its type and its size: no two contents give the same bytes."""
    kind = type(content)
    if kind is dict:
        if not {str}.issuperset(map(type, content)):
            raise TypeError("the keys of a plain dict are strings")
        digest.update(b"dict %d " % len(content))
        for name in sorted(content):
            _add_plain(digest, name)
            _add_plain(digest, content[name])
    elif kind is list:
        digest.update(b"list %d " % len(content))
        for each in content:
            _add_plain(digest, each)
    elif kind is np.ndarray and content.dtype.kind in "biuf":
        values = np.ascontiguousarray(content + 0.0 if content.dtype.kind == "f" else content)
        values = values.astype(values.dtype.newbyteorder("<"))
        if values.dtype.kind == "f":
            values[np.isnan(values)] = np.nan
        digest.update(f"array {values.dtype.str} {content.shape} ".encode())
        digest.update(values.tobytes())
    elif kind in (str, bytes):
        data = content if kind is bytes else content.encode("utf-8", "surrogatepass")
        digest.update(b"%s %d " % (kind.__name__.encode(), len(data)))
        digest.update(data)
    elif kind is float:
        digest.update(b"float " + struct.pack("<d", np.nan if content != content else content + 0.0))
    elif kind in (int, bool) or content is None:
        digest.update(f"{kind.__name__} {content} ".encode())
    else:
        raise TypeError(f"no content hash is defined for {kind.__module__}.{kind.__name__}")


class _ColumnHasher:
    """The content of one column as streams of bytes, a few for each level of nesting; chunk borders leave no trace."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, Any] = defaultdict(hashlib.sha256)
        self._rows: Counter[str] = Counter()

    def digests(self) -> dict[str, str]:
        """The digest of each stream that got any bytes, in order of name."""
        return {name: self._streams[name].hexdigest() for name in sorted(self._streams)}

    def add(self, path: str, array: pa.Array) -> None:
        """The next rows: where the nulls are, then the values that are not null."""
        rows, self._rows[path] = self._rows[path], self._rows[path] + len(array)
        array = _decoded(array)
        if array.null_count:
            nulls = np.flatnonzero(pc.is_null(array).to_numpy(zero_copy_only=False)) + rows
            self._put(f"{path} null", nulls.astype(np.int64))
            array = array.drop_null()
        if len(array):
            self._adder(array.type)(path, array)

    def _put(self, stream: str, values: Any) -> None:
        self._streams[stream].update(values)

    def _adder(self, kind: pa.DataType) -> Callable[[str, pa.Array], None]:
        if pa.types.is_null(kind):
            return lambda path, array: None
        if pa.types.is_struct(kind):
            return self._add_struct
        if pa.types.is_fixed_size_list(kind) or _is_list(kind):
            return self._add_lists
        if _is_text(kind) or _is_bytes(kind):
            return self._add_texts
        if pa.types.is_floating(kind):
            return self._add_floats
        return self._add_fixed_width

    def _add_struct(self, path: str, array: pa.Array) -> None:
        for index, child in enumerate(array.flatten()):
            self.add(f"{path}.{index}", child)

    def _add_lists(self, path: str, array: pa.Array) -> None:
        if not pa.types.is_fixed_size_list(array.type):
            lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
            self._put(f"{path} length", np.ascontiguousarray(lengths.astype(np.int64)))
        self.add(f"{path}.0", array.flatten())

    def _add_texts(self, path: str, array: pa.Array) -> None:
        wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
        _, offsets, data = array.buffers()
        bounds = np.frombuffer(offsets, np.int64 if wide else np.int32)[array.offset : array.offset + len(array) + 1]
        self._put(f"{path} length", np.diff(bounds).astype(np.int64))
        if bounds[-1] > bounds[0]:
            self._put(f"{path} value", memoryview(data)[int(bounds[0]) : int(bounds[-1])])

    def _add_floats(self, path: str, array: pa.Array) -> None:
        values = array.to_numpy(zero_copy_only=False)
        for start in range(0, len(values), _BLOCK):  # small enough to stay in the processor's cache
            block = values[start : start + _BLOCK] + 0.0
            unknown = np.isnan(block)
            if unknown.any():
                block[unknown] = np.nan
            self._put(f"{path} value", block)

    def _add_fixed_width(self, path: str, array: pa.Array) -> None:
        if pa.types.is_boolean(array.type):
            self._put(f"{path} value", array.to_numpy(zero_copy_only=False))
            return
        width = array.type.byte_width
        data = memoryview(array.buffers()[1])
        self._put(f"{path} value", data[array.offset * width : (array.offset + len(array)) * width])


def _decoded(array: pa.Array) -> pa.Array:
    """The same values without an encoding around them."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _decoded(array.storage)
    if pa.types.is_dictionary(kind):
        return _decoded(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _decoded(pc.run_end_decode(array))
    if pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return array.cast(pa.large_binary())
    return array


def _type_name(kind: pa.DataType) -> Any:
    """The logical type as JSON: without encodings, widths of offsets and the names of list items, which Parquet changes."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _type_name(kind.value_type)
    if _is_text(kind) or pa.types.is_string_view(kind):
        return "string"
    if _is_bytes(kind) or pa.types.is_binary_view(kind):
        return "binary"
    if pa.types.is_fixed_size_list(kind):
        return ["list", _type_name(kind.value_type), kind.list_size]
    if _is_list(kind):
        return ["list", _type_name(kind.value_type)]
    if pa.types.is_struct(kind):
        return ["struct", *([field.name, _type_name(field.type)] for field in kind)]
    if pa.types.is_nested(kind):
        raise TypeError(f"no content hash is defined for the type {kind}")
    return str(kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
