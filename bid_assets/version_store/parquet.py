"""Tables in the store: how they are written as Parquet, and the versions of several windows read as one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import dataset

from bid_assets.version_store.content_hash import TableHasher
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.store import VersionStore

Columns = Sequence[str] | Callable[[pa.Schema], Sequence[str]] | None
"""Which columns to read: their names, or what gives the names for the schema of the stored table; None: all."""

_ROW_GROUP = 1 << 17


class WindowedTable:
    """The versions of one Parquet asset over several windows: pinned when made, read and verified when asked.

    One type for none, one or many windows. `windows` are those expected, `missing` those without a version, `manifests` the
    pinned versions, in the order of `windows`. With a `schema`, a table of no windows has its columns.
    """

    def __init__(
        self,
        store: VersionStore,
        asset: str,
        windows: Sequence[str],
        heads: Mapping[str, Manifest],
        schema: pa.Schema | None = None,
    ) -> None:
        self.store = store
        self.asset = asset
        self.windows = tuple(windows)
        self.missing = tuple(key for key in windows if key not in heads)
        self.manifests = tuple(heads[key] for key in windows if key in heads)
        self.schema = schema

    @property
    def num_rows(self) -> int:
        """Rows of all windows."""
        return sum(manifest.rows or 0 for manifest in self.manifests)

    def read(self, columns: Columns = None, where: pc.Expression | None = None) -> pa.Table:
        """All windows as one table, or only `columns` of it, in their order, and only the rows `where` it is true.

        Raises `CorruptVersionError`, and `ValueError` for a column that there is not or where windows have different columns or
        types. With neither a version nor a schema, the table has no columns and no rows.
        """
        if not self.manifests:
            return self._chosen(self.schema, columns).empty_table() if self.schema is not None else pa.table({})
        tables, names = self._open(columns)
        return tables.to_table(columns=names, filter=where)

    def take(self, rows: npt.NDArray[np.int64], columns: Columns = None) -> pa.Table:
        """These rows, by ascending index; at least one window has a version. Raises as `read`."""
        tables, names = self._open(columns)
        return tables.take(pa.array(rows), columns=names)

    def _open(self, columns: Columns) -> tuple[dataset.Dataset, list[str]]:
        """The files as one dataset, verified, and the names of the columns."""
        with ThreadPoolExecutor() as pool:  # checksums and downloads wait for no lock
            files = [str(file) for file in pool.map(self.store.fetch, self.manifests)]
        tables = dataset.dataset(files, format="parquet")
        parts = [self._chosen(part.physical_schema, columns) for part in tables.get_fragments()]
        for manifest, part in zip(self.manifests, parts, strict=True):
            if not part.equals(parts[-1]):
                raise ValueError(
                    f"{self.asset}: window {manifest.partition} has other columns than window {self.manifests[-1].partition} "
                    f"({_difference(part, parts[-1])}); make it again with `bid-assets run --from {manifest.partition}`"
                )
        return tables, parts[-1].names

    def select_windows(self, windows: Sequence[str]) -> WindowedTable:
        """Some of the windows, with the columns of the newest of all where these have no version."""
        heads = {manifest.partition: manifest for manifest in self.manifests}
        return WindowedTable(self.store, self.asset, windows, heads, self.stored_schema)

    @cached_property
    def stored_schema(self) -> pa.Schema | None:
        """That of the newest window, or the one given where there is no version."""
        return pq.read_schema(self.store.fetch(self.manifests[-1])) if self.manifests else self.schema

    def _chosen(self, schema: pa.Schema, columns: Columns) -> pa.Schema:
        """The fields asked for, in the order asked for."""
        if columns is None:
            return schema
        if callable(columns):
            columns = columns(schema)
        if unknown := [name for name in columns if name not in schema.names]:
            raise ValueError(f"{self.asset} has no column {', '.join(unknown)}; it has {', '.join(schema.names)}")
        return pa.schema([schema.field(name) for name in columns])


@dataclass(frozen=True)
class TableFile:
    """A table written part by part, since it may be larger than memory: where it lies, and what a manifest says of it."""

    path: Path
    schema: pa.Schema
    num_rows: int
    content_hash: str


def write_parquet(table: pa.Table, path: Path) -> None:
    """Parquet for numbers and vectors: zstd, byte-stream split instead of dictionaries for floats, dictionaries for text."""
    with _writer(table.schema, path) as writer:
        writer.write_table(table, row_group_size=_ROW_GROUP)


def write_parts(parts: Iterable[pa.Table], path: Path) -> TableFile:
    """Write at least one table, one after the other, as one. Raises `ValueError` where one has other columns than the first."""
    parts = iter(parts)
    first = next(parts)
    content, rows = TableHasher(first.schema), 0
    with _writer(first.schema, path) as writer:
        for part in chain([first], parts):
            if not part.schema.equals(first.schema):
                raise ValueError(f"the parts of one table have different columns ({_difference(part.schema, first.schema)})")
            content.add(part)
            writer.write_table(part, row_group_size=_ROW_GROUP)
            rows += part.num_rows
    return TableFile(path, first.schema, rows, content.hash())


def _writer(schema: pa.Schema, path: Path) -> pq.ParquetWriter:
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_byte_stream_split=[name for name, kind in leaves if pa.types.is_floating(kind)],
        use_dictionary=[name for name, kind in leaves if not pa.types.is_primitive(kind)],
    )


def _leaves(path: str, kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    """The Parquet columns that a field becomes, with their types."""
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [(path, kind)]


def _difference(one: pa.Schema, other: pa.Schema) -> str:
    """The fields that only one of two schemas has, for an error message."""
    fields = {(field.name, str(field.type)) for field in one} ^ {(field.name, str(field.type)) for field in other}
    return ", ".join(f"{name}: {kind}" for name, kind in sorted(fields)) or "in another order"
