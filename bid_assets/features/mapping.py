"""Features by row: a function of one bid is the only definition, which is mapped over raw tables for training.

For families in which no row needs another bid. Counts of past bids are in `history_definition.py`, embeddings of texts in
`embeddings/definition.py`, and what neither can say in `table_definition.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bid_assets.app_db.contract import TEXT, TIME
from bid_assets.common.arrow import Integers
from bid_assets.common.windows import TimeRange
from bid_assets.features.as_of_join import as_of_row_index
from bid_assets.features.family import (
    Encoder,
    FeatureFamily,
    RawTables,
    bids_in_span,
    jobs_in_span,
)
from bid_assets.features.inputs import BidContext, FeatureRow, RawRow

ROWS_AT_ONCE = 8192
"""Rows that are plain values at a time, which take many times the memory of a column."""

_BID_COLUMNS = ("submitted_at", "amount", "generated_bid_text", "bid_settings_snapshot", "external_signals_snapshot")
"""Of `raw_bids`, in the order of the fields of `BidContext`."""

Columns = Mapping[str, pa.Array]


@dataclass(frozen=True)
class RowDefinition:
    """`features_of(bid)`: the features by name, from the bid, the row of its profile and that of its job.

    Of a family with the key `job_id` there is only the job.
    """

    features_of: Callable[[BidContext], FeatureRow]

    def compute_rows(self, family: FeatureFamily, bids: Sequence[BidContext], encoder: Encoder | None) -> list[FeatureRow]:
        """The features of each bid, in order."""
        return [self.features_of(bid) for bid in bids]

    def compute_table(self, family: FeatureFamily, tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
        """The family's table: the function mapped over the rows of `span`."""

        def columns_of(bids: Sequence[BidContext]) -> Columns:
            rows = [self.features_of(bid) for bid in bids]
            return {each.name: _array([row[each.name] for row in rows], each.type) for each in family.features}

        return family.table(*map_columns(family, tables, span, columns_of))


def map_columns(
    family: FeatureFamily, tables: RawTables, span: TimeRange, columns_of: Callable[[Sequence[BidContext]], Columns]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray, dict[str, pa.ChunkedArray]]:
    """Key and time of a family's rows in `span`, and columns of them, computed piece by piece."""
    keys, columns = zip(*((keys, columns_of(bids)) for keys, bids in _pieces(family, tables, span)), strict=True)
    key, time = pa.concat_tables(keys).columns
    return key, time, {name: pa.chunked_array([piece[name] for piece in columns]) for name in columns[0]}


def row_counts(family: FeatureFamily, tables: RawTables, span: TimeRange) -> dict[str, int]:
    """How many bids of `span` there are for which each of the family's `row_counts` is true."""
    counts: Counter[str] = Counter()
    if family.row_counts:
        for _, bids in _pieces(family, tables, span):
            counts.update({name: sum(map(predicate, bids)) for name, predicate in family.row_counts.items()})
    return dict(counts)


def readability(family: FeatureFamily, tables: RawTables, span: TimeRange) -> tuple[pa.ChunkedArray, dict[str, pa.Array]]:
    """The times of the bids of `span`, and by the names of the family's `readability` a reason for each bid, or null."""
    bids = bids_in_span(tables["raw_bids"].select(["submitted_at", *family.readability]), span)
    columns: dict[str, pa.Array] = {}
    for column, reasons_of in family.readability.items():
        texts = bids[column].combine_chunks().dictionary_encode()
        reasons = [reasons_of(text) for text in texts.dictionary.to_pylist()]  # each distinct text is parsed once
        columns |= {name: pa.array([each[name] for each in reasons], TEXT).take(texts.indices) for name in reasons_of(None)}
    return bids["submitted_at"], columns


def _pieces(family: FeatureFamily, tables: RawTables, span: TimeRange) -> Iterator[tuple[pa.Table, list[BidContext]]]:
    """Key and time of at most `ROWS_AT_ONCE` rows of the family, and the context of each; one piece at least."""
    if family.key == "job_id":
        for _, jobs in _slices(jobs_in_span(tables["raw_jobs"], span)):
            yield jobs.select(["id", "window"]), [BidContext(job["window"], job=job) for job in _plain_rows(jobs)]
        return
    bids = bids_in_span(tables["raw_bids"].select(["id", "profile_id", "job_id", *_BID_COLUMNS]), span)
    joined = [
        (tables[name], as_of_row_index(tables[name], bids[key], bids)) if name in family.reads else (None, None)
        for name, key in (("raw_profiles", "profile_id"), ("raw_jobs", "job_id"))
    ]
    for rows, piece in _slices(bids):
        columns = [_plain_values(piece[name]) for name in _BID_COLUMNS]
        columns += [[None] * len(piece) if index is None else _rows_at(table, index[rows]) for table, index in joined]
        yield piece.select(["id", "submitted_at"]), list(map(BidContext, *columns))


def _slices(table: pa.Table) -> Iterator[tuple[slice, pa.Table]]:
    for start in range(0, max(1, table.num_rows), ROWS_AT_ONCE):
        yield slice(start, start + ROWS_AT_ONCE), table.slice(start, ROWS_AT_ONCE)


def _rows_at(table: pa.Table, index: Integers) -> list[RawRow | None]:
    """The rows of a table at these indices, equal indices as one object; None where the index is -1."""
    distinct, place = np.unique(index, return_inverse=True)
    present = distinct[distinct >= 0]
    rows = [*[None] * (len(distinct) - len(present)), *_plain_rows(table.take(pa.array(present)))]
    return [rows[number] for number in place.tolist()]


def _plain_rows(table: pa.Table) -> list[RawRow]:
    columns = [_plain_values(column) for column in table.columns]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def _plain_values(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """Python values, None where there is none; times in microseconds since 1970."""
    values: list[Any] = (column.cast(pa.int64()) if column.type == TIME else column).to_pylist()
    return values


def _array(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """The values as an array. A list that several rows share, since their function caches it, is converted once."""
    if not pa.types.is_nested(type_):
        return pa.array(values, type_)
    distinct = {id(value): value for value in values}
    place = {identity: number for number, identity in enumerate(distinct)}
    return pa.array(list(distinct.values()), type_).take(pa.array([place[id(value)] for value in values], pa.int64()))
