"""What a feature family is. Every family module defines one `FAMILY`; `registry.py` lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.app_db.contract import TEXT, TIME
from bid_assets.common.arrow import microseconds
from bid_assets.common.windows import TimeRange
from bid_assets.features.inputs import BidContext, FeatureRow, Vector
from bid_assets.features.interval_counts import argsort_by_group_time

RawTables = Mapping[str, pa.Table]
"""Raw tables by asset name (`raw_bids`, ...), with the schemas of `app_db.contract`."""


class Encoder(Protocol):
    """A text encoder. `embeddings.encoder.CachedEncoder` is the one that runs; tests may bring a small one."""

    @property
    def fingerprint(self) -> str:
        """Names the exact model: equal fingerprints give equal vectors."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def encode(self, texts: pa.ChunkedArray | pa.Array) -> pa.FixedSizeListArray:
        """One float32 vector per text, in order; null where the text is null or blank."""

    def vectors(self, texts: Sequence[str | None]) -> list[Vector | None]:
        """As `encode`, for a few texts: one array per text."""


class Role(StrEnum):
    """What a feature means to the rest of the platform, which asks for it by role and knows no names of features."""

    PAST_BIDS = "past bids"
    """The number of the profile's past bids: where there is none, a prediction says that it had no history."""
    KNOWN_OUTCOMES = "known outcomes"
    """How many of these had a known outcome, and"""
    SUCCESSES = "successes"
    """how many were successes: the baseline `profile_success_rate` of the metrics report."""
    BID_SETTING = "bid setting"
    """Read from the bid's settings: a prediction says where it is missing."""


@dataclass(frozen=True)
class Feature:
    """One declared column. The type decides how a model reads it (see `modelling.estimators.column_encoders`)."""

    name: str
    type: pa.DataType
    meaning: str
    role: Role | None = None


class Definition(Protocol):
    """The one definition of a family's features, and how it is computed for many bids and for a few.

    `RowDefinition` (`mapping.py`), `HistoryDefinition` (`history_definition.py`), `EmbeddingDefinition`
    (`embeddings/definition.py`) and `TableDefinition` (`table_definition.py`) are the ones that there are.
    """

    def compute_table(self, family: FeatureFamily, tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
        """See `FeatureFamily.compute_table`."""

    def compute_rows(self, family: FeatureFamily, bids: Sequence[BidContext], encoder: Encoder | None) -> list[FeatureRow]:
        """See `FeatureFamily.compute_rows`."""


@dataclass(frozen=True)
class FeatureFamily:
    """A named group of features with one definition, which training and serving share.

    `row_counts`: names, and predicates of the bids that are counted in the metadata of the asset. `readability`: JSON columns
    of `raw_bids` that the family reads, and the function that gives, for a text of it, names and reasons why what the family
    reads of it cannot be read (see `app_db/json_values.py`). `is_profile_history`: the logistic regression on the history
    reads the family.
    """

    name: str
    description: str
    key: Literal["bid_id", "job_id"]
    reads: tuple[str, ...]
    features: tuple[Feature, ...]
    definition: Definition
    lookback_days: int = 0
    needs_encoder: bool = False
    is_profile_history: bool = False
    row_counts: Mapping[str, Callable[[BidContext], bool]] = field(default_factory=dict)
    readability: Mapping[str, Callable[[str | None], Mapping[str, str | None]]] = field(default_factory=dict)
    code_version: str = "1"

    def compute_table(self, tables: RawTables, span: TimeRange, encoder: Encoder | None = None) -> pa.Table:
        """One row per bid submitted in `span` (key `bid_id`, time `submitted_at`), or one per window and job that its bids
        name (key `job_id`, time `window`), sorted by time and key.

        `tables` holds at least the rows of `span` and of the `lookback_days` before it; others do not change the result.
        """
        return self.definition.compute_table(self, tables, span, encoder)

    def compute_rows(self, bids: Sequence[BidContext], encoder: Encoder | None = None) -> list[FeatureRow]:
        """The same features of a few bids, in order, bit for bit."""
        return self.definition.compute_rows(self, bids, encoder)

    @property
    def time_column(self) -> str:
        """The column that says which window a row belongs to."""
        return "submitted_at" if self.key == "bid_id" else "window"

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the family's table as declared: key, time, features. The length of a `VECTOR` is the encoder's."""
        key = [pa.field(self.key, TEXT, nullable=False), pa.field(self.time_column, TIME, nullable=False)]
        return pa.schema([*key, *(pa.field(feature.name, feature.type) for feature in self.features)])

    @cached_property
    def _vector_columns(self) -> tuple[int, ...]:
        """The indices of the vector columns."""
        return tuple(index for index, field in enumerate(self.schema) if field.type == VECTOR)

    def table(
        self, keys: pa.ChunkedArray, times: pa.ChunkedArray, columns: Mapping[str, pa.Array | pa.ChunkedArray]
    ) -> pa.Table:
        """The family's table from its columns, in the order and the types of `schema`, sorted by time and key.

        Raises `KeyError` where a declared feature is not among `columns`, `ValueError` where their lengths differ.
        """
        schema, arrays = self.schema, [keys, times, *(columns[feature.name] for feature in self.features)]
        for index in self._vector_columns:
            schema = schema.set(index, schema.field(index).with_type(arrays[index].type))
        table = pa.Table.from_arrays(arrays, schema=schema)  # which casts what has another type
        if table.num_rows < 2:
            return table
        time = microseconds(table[self.time_column])
        order = argsort_by_group_time(np.zeros_like(time), time, table[self.key])
        return table if (np.diff(order) > 0).all() else table.take(pa.array(order))


TOKENS = pa.large_list(pa.string())
"""The declared type of the token set of a document: a model weighs each token (TF-IDF), while a list of texts (skills)
is encoded multi-hot, by its most frequent values."""

NAMED_NUMBERS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))
"""The declared type of numbers whose names are not known beforehand, each name once: a model reads the most frequent
names, each as a number."""

VECTOR = pa.list_(pa.float32())
"""The declared type of an embedding; in a table it is a fixed-size list of the encoder's dimension."""


def bids_in_span(bids: pa.Table, span: TimeRange) -> pa.Table:
    """The bids submitted in `span`."""
    return _rows_in_span(bids, bids["submitted_at"], span)


def jobs_in_span(jobs: pa.Table, span: TimeRange) -> pa.Table:
    """The jobs of the windows in `span`."""
    return _rows_in_span(jobs, jobs["window"], span)


def _rows_in_span(table: pa.Table, times: pa.ChunkedArray, span: TimeRange) -> pa.Table:
    inside = span_mask(times, span)
    return table if inside.all() else table.filter(pa.array(inside))


def span_mask(times: pa.ChunkedArray, span: TimeRange) -> npt.NDArray[np.bool_]:
    """Mask of the times, none of them missing, that lie in `span`."""
    at, (start, end) = microseconds(times), _span_bounds(span)
    return np.asarray((at >= start) & (at < end))


@lru_cache(maxsize=8)
def _span_bounds(span: TimeRange) -> tuple[int, int]:
    start, end = pa.array([span.start, span.end], TIME).view(pa.int64()).to_pylist()
    return start, end
