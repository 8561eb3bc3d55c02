"""Tables in the store: how they are written as Parquet, and the versions of several windows read as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bid_assets.versions.manifest import Manifest
from bid_assets.versions.store import VersionStore


class WindowedTable:
    """The versions of one Parquet asset over several windows: pinned when made, read and verified when asked.

    One type for none, one or many windows. `windows` are those expected, `missing` those without a version, `manifests` the
    pinned versions, oldest window first.
    """

    def __init__(self, store: VersionStore, asset: str, windows: Sequence[str], heads: Mapping[str, Manifest]) -> None:
        self.store = store
        self.asset = asset
        self.windows = tuple(windows)
        self.missing = tuple(key for key in windows if key not in heads)
        self.manifests = tuple(heads[key] for key in windows if key in heads)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All windows as one table, or only `columns` of it. Raises `CorruptVersion`, and `ValueError` for other schemas.

        Without any version there is no schema: the table then has no columns and no rows.
        """
        files = [self.store.fetch(manifest) for manifest in self.manifests]
        if not files:
            return pa.table({})
        parts = [pq.read_table(file, columns=None if columns is None else list(columns), partitioning=None) for file in files]
        for manifest, part in zip(self.manifests, parts, strict=True):
            if not part.schema.equals(parts[-1].schema):
                raise ValueError(
                    f"{self.asset}: window {manifest.partition} has other columns than window {self.manifests[-1].partition}; "
                    f"make it again with `bid-assets run --from {manifest.partition}`"
                )
        return pa.concat_tables(parts)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Parquet for numbers and vectors: zstd, byte-stream split instead of dictionaries for floats."""
    floats = [name for field in table.schema for name in _float_leaves(field)]
    dictionaries = [
        field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)
    ]
    pq.write_table(
        table,
        path,
        compression="zstd",
        use_dictionary=dictionaries,
        use_byte_stream_split=floats,
        row_group_size=1 << 17,
    )


def _float_leaves(field: pa.Field) -> list[str]:
    """The Parquet names of a field's floating-point columns."""
    if pa.types.is_floating(field.type):
        return [field.name]
    if pa.types.is_fixed_size_list(field.type) and pa.types.is_floating(field.type.value_type):
        return [f"{field.name}.list.element"]
    return []
