"""What a feature family is. Every family module defines one `FAMILY`; `families.py` lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT, TIME
from bid_assets.windows import TimeRange

RawTables = Mapping[str, pa.Table]
"""Raw tables by asset name (`raw_bids`, ...), with the schemas of `app_db.contract`."""


class Encoder(Protocol):
    """Turns texts into vectors. Implemented in `encoder.py`; tests may bring a small one of their own."""

    @property
    def fingerprint(self) -> str:
        """Names the exact model: equal fingerprints give equal vectors."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def encode(self, texts: pa.ChunkedArray | pa.Array) -> pa.FixedSizeListArray:
        """One float32 vector per text, in order; null where the text is null or blank."""


@dataclass(frozen=True)
class Feature:
    """One declared column. The type decides how a model reads it (see `modelling.preprocess`)."""

    name: str
    type: pa.DataType
    meaning: str


@dataclass(frozen=True)
class FeatureFamily:
    """A named group of features, computed together by a pure function.

    `compute(tables, span, encoder)` returns one row per bid submitted in `span` (key `bid_id`, time `submitted_at`),
    or one per window and job that its bids name (key `job_id`, time `window`), sorted by time and key. `tables` holds
    at least the rows of `span` and of the `lookback_days` before it; rows outside must not change the answer.
    """

    name: str
    description: str
    key: Literal["bid_id", "job_id"]
    reads: tuple[str, ...]
    features: tuple[Feature, ...]
    compute: Callable[[RawTables, TimeRange, Encoder | None], pa.Table]
    lookback_days: int = 0
    needs_encoder: bool = False
    code_version: str = "1"

    @property
    def time_column(self) -> str:
        """The column that says which window a row belongs to."""
        return "submitted_at" if self.key == "bid_id" else "window"

    def table(self, keys: pa.ChunkedArray, times: pa.ChunkedArray, columns: Mapping[str, object]) -> pa.Table:
        """The family's table from its columns: key, time, then the features as declared, sorted by time and key."""
        fields = [pa.field(self.key, TEXT, nullable=False), pa.field(self.time_column, TIME, nullable=False)]
        arrays = [pc.cast(keys, TEXT), pc.cast(times, TIME)]
        for feature in self.features:
            values = columns[feature.name]
            # an embedding's length is the encoder's: only its kind is declared
            kind = values.type if feature.type == VECTOR else feature.type  # type: ignore[attr-defined]
            fields.append(pa.field(feature.name, kind))
            arrays.append(values if isinstance(values, pa.Array) and values.type == kind else pc.cast(values, kind))
        table = pa.table(arrays, schema=pa.schema(fields))
        return table.take(pc.sort_indices(table, sort_keys=[(self.time_column, "ascending"), (self.key, "ascending")]))


VECTOR = pa.list_(pa.float32())
"""The declared type of an embedding; in a table it is a fixed-size list of the encoder's dimension."""


def bids_of(bids: pa.Table, span: TimeRange) -> pa.Table:
    """The bids submitted in `span`."""
    return _within(bids, "submitted_at", span)


def jobs_of(jobs: pa.Table, span: TimeRange) -> pa.Table:
    """The jobs of the windows in `span`."""
    return _within(jobs, "window", span)


def _within(table: pa.Table, column: str, span: TimeRange) -> pa.Table:
    start, end = pa.scalar(span.start, TIME), pa.scalar(span.end, TIME)
    return table.filter(pc.and_(pc.greater_equal(table[column], start), pc.less(table[column], end)))
