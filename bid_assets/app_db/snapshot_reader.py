"""Reads the application's tables as Arrow, for any range of windows, all from one snapshot of the database.

Rows come by ADBC in chunks of bounded size: a range is first counted by time and cut, then each part is one query, sorted
here, so that the order of rows depends neither on the database's physical order nor on its collation. The queries
are in `queries.py`; over which connections they go in `snapshot_pool.py`; what the rows must look like in `contract.py`;
which jobs and profiles the bids reference in `referenced_ids.py`.

    with open_snapshot(url, cadence=Cadence.WEEKLY) as snapshot:
        for batch in snapshot.stream("raw_bids", snapshot.extent()): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import repeat, tee

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.chunking import Chunk, CoveredRanges, chunk_range
from bid_assets.app_db.connections import SILENCE_SECONDS
from bid_assets.app_db.contract import REQUIRED_COLUMNS, STREAMS, TEXTS
from bid_assets.app_db.fingerprints import Fingerprints, window_fingerprints
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.json_columns import text_lists, unwrapped
from bid_assets.app_db.queries import REASON_OF, Queries
from bid_assets.app_db.readability import ReadabilityCounts
from bid_assets.app_db.referenced_ids import REFERENCE_SCHEMA, ReferencedIds, match_rows
from bid_assets.app_db.row_validation import RowSource
from bid_assets.app_db.snapshot_pool import MAX_PREFETCHED, SnapshotConnectionPool, open_snapshot_pool
from bid_assets.app_db.time_extent import Extent, RowsOutside, extent_of, oldest_valid_bid, rows_outside
from bid_assets.common.windows import MICROSECOND, Cadence, TimeRange

_HOUR = timedelta(hours=1)
_BATCH_ROWS = 32_768
_SHORT_ROWS = 12  # so many outcomes or rejected rows take less memory than one bid
_REFERENCED_ROWS = 2  # jobs are shorter than the bids that reference them; with fewer at a time there would be more queries
_JSON_TEXTS = ("bid_settings_snapshot", "external_signals_snapshot")
_ORDER = {
    "raw_bids": ("submitted_at", "id"),
    "raw_bid_outcomes": ("outcome_timestamp", "id"),
    "rejected_rows": ("window", "table", "id", "reason"),
}


class Snapshot:
    """One consistent view of the application's database. Made by `open_snapshot`."""

    def __init__(self, pool: SnapshotConnectionPool, cadence: Cadence, chunk_rows: int) -> None:
        with pool.cursor() as cursor:
            self._queries = Queries(contract_columns(cursor), cadence)
        self._pool = pool
        self._cadence = cadence
        self._limit = max(1, chunk_rows // MAX_PREFETCHED)
        self._sources = (self._queries.bids, self._queries.outcomes)
        self._counts: dict[TimeRange, dict[str, pa.Table]] = {}
        self._referenced_ids = ReferencedIds(cadence)
        self._readability = {name: ReadabilityCounts() for name in STREAMS}
        self._fully_valid_ranges = {source.table: CoveredRanges() for source in self._sources}

    def extent(self) -> TimeRange | None:
        """From the first valid bid or outcome to just after the last one (see `time_extent.py`); None where there is none."""
        return self._extent.span

    def oldest_valid_bid(self) -> datetime | None:
        """When the oldest bid was submitted that is not rejected; None where there is none."""
        with self._pool.cursor() as cursor:
            return oldest_valid_bid(cursor, self._queries)

    def rows_outside(self, span: TimeRange) -> list[RowsOutside]:
        """The tables that have rows before or after `span`, and how many."""
        with self._pool.cursor() as cursor:
            return rows_outside(cursor, self._queries, span)

    def watermark(self) -> dict[str, int | str | None]:
        """How many rows each table has and the newest times, as JSON can hold it: two equal ones mean nothing was added."""
        row_counts = self._pool.fetch_each(f"SELECT count(*) AS rows FROM {table}" for table in REQUIRED_COLUMNS)
        newest = ("newest_submitted_at", "newest_outcome_timestamp")
        return {
            **{table: count["rows"][0].as_py() for table, count in zip(REQUIRED_COLUMNS, row_counts, strict=True)},
            **{name: last and last.isoformat() for name, (_, last) in zip(newest, self._ends, strict=True)},
        }

    def fingerprints(self, span: TimeRange) -> Fingerprints:
        """What `fingerprints.py` says of the windows of `span`, as this snapshot sees them."""
        with self._pool.cursor() as cursor:
            return window_fingerprints(cursor, self._cadence, span)

    def readability(self, name: str) -> ReadabilityCounts:
        """Which JSON values and times of a stream of jobs or profiles could not be read, as far as it has been read."""
        return self._readability[name]

    def read(self, span: TimeRange) -> dict[str, pa.Table]:
        """Every stream of `span`, whole, by name."""
        return {name: self.stream(name, span).read_all() for name in STREAMS}

    def stream(self, name: str, span: TimeRange) -> pa.RecordBatchReader:
        """The rows of `span` with the schema `STREAMS[name]`, by window, within a window by time and id.

        A bid or an outcome belongs to the window of its own time; jobs and profiles to each window whose valid bids
        name them; a rejected row to its own time's window, or where no valid row is around to that of the newest bid.
        Memory holds about `chunk_rows` bids at a time (or the bids of one hour, and where jobs, profiles and rejected
        rows are concerned of one window, if these are more), and beside them which jobs and profiles each window names.
        Cheapest in the order of `STREAMS`: what one stream has seen, the next ones need not ask for again.
        """
        batches = {
            "raw_bids": lambda: _batches(self._bids(span), STREAMS[name], _ORDER[name]),
            "raw_bid_outcomes": lambda: _batches(self._outcomes(span), STREAMS[name], _ORDER[name]),
            "raw_jobs": lambda: self._referenced_batches("jobs", "job_id", STREAMS[name], span),
            "raw_profiles": lambda: self._referenced_batches("profiles", "profile_id", STREAMS[name], span),
            "rejected_rows": lambda: _batches(self._rejected(span), STREAMS[name], _ORDER[name]),
        }
        return pa.RecordBatchReader.from_batches(STREAMS[name], batches[name]())

    def _bids(self, span: TimeRange) -> Iterator[pa.Table]:
        parts = self._hours(span)
        chunks = self._valid_rows(self._queries.bids, STREAMS["raw_bids"], parts)
        for part in parts:
            chunk = next(chunks)
            if part.span not in self._referenced_ids:
                self._referenced_ids.add(part.span, chunk)
            yield chunk
            del chunk  # or it would be kept while the next one arrives (which zip would do, too)

    def _outcomes(self, span: TimeRange) -> Iterator[pa.Table]:
        source = self._outcome_source()
        return self._valid_rows(
            source, STREAMS["raw_bid_outcomes"], self._chunks([source], span, _HOUR, _SHORT_ROWS * self._limit)
        )

    def _valid_rows(self, source: RowSource, schema: pa.Schema, parts: list[Chunk]) -> Iterator[pa.Table]:
        """The stream of valid rows: all but those that another query rejects. One connection sends while the other one's server
        joins."""
        results = self._pool.fetch_each(
            query
            for part in parts
            for query in (self._queries.all_rows(source, schema, part.span), self._queries.rejected_ids(source, part.span))
        )
        for part in parts:
            chunk, rejected = next(results), next(results)["id"]
            if len(rejected) == 0:
                self._fully_valid_ranges[source.table].add(part.span)
            else:
                chunk = chunk.filter(pc.invert(pc.is_in(chunk["id"], rejected)))  # to which one null is like the other
            yield chunk
            del chunk

    def _referenced_batches(self, table: str, reference: str, schema: pa.Schema, span: TimeRange) -> Iterator[pa.RecordBatch]:
        """Fetches each row once per chunk, however many of the chunk's windows reference it."""
        spans = self._referencing_spans(span)
        parts = self._chunks([self._queries.bids], span, self._cadence.length, _REFERENCED_ROWS * self._limit)
        pairs_by_chunk, ids_by_chunk = tee(self._referenced_ids.in_range(part.span, reference, spans) for part in parts)
        query = self._queries.rows_by_id(table, _without_window(schema), with_reasons=True)
        results = self._pool.fetch_each(repeat(query), (pairs["id"].chunk(0).dictionary for pairs in ids_by_chunk))
        for pairs in pairs_by_chunk:
            yield from _by_window(pairs, next(results), schema, self._readability[f"raw_{table}"])

    def _referencing_spans(self, span: TimeRange) -> list[TimeRange]:
        """Ranges that make up `span`, for each of which the referenced ids are known, whether its bids were streamed or not."""
        parts = [part.span for part in self._hours(span)]
        unknown = [part for part in parts if part not in self._referenced_ids]
        bids = self._pool.fetch_each(self._queries.valid_rows(self._queries.bids, REFERENCE_SCHEMA, part) for part in unknown)
        for part in unknown:
            self._referenced_ids.add(part, next(bids))
        return parts

    def _hours(self, span: TimeRange) -> list[Chunk]:
        return self._chunks([self._queries.bids], span, _HOUR, self._limit)

    def _outcome_source(self) -> RowSource:
        """Outcomes, joined with the check of their bids only where a stream of this snapshot has not shown all bids to be
        valid."""
        (first, last), _ = self._ends
        all_valid = first and last and TimeRange(first, last + MICROSECOND) in self._fully_valid_ranges["bids"]
        return self._queries.outcomes_without_bid_check if all_valid else self._queries.outcomes

    def _rejected(self, span: TimeRange) -> Iterator[pa.Table]:
        parts = self._chunks(self._sources, span, self._cadence.length, _SHORT_ROWS * self._limit)
        return self._pool.fetch_each(query for part in parts if (query := self._rejected_query(part.span)))

    def _rejected_query(self, part: TimeRange) -> str:
        """Empty where no query is needed: streams of this snapshot have shown every row to be valid."""
        unchecked = [source for source in self._sources if part not in self._fully_valid_ranges[source.table]]
        extent = self._extent
        out_of_range = self._sources if extent.time_for_undated_rows in part else ()
        return self._queries.rejected_rows(unchecked, part, out_of_range, extent.time_for_undated_rows, extent.windows)

    def _chunks(self, sources: Iterable[RowSource], span: TimeRange, step: timedelta, limit: int) -> list[Chunk]:
        return chunk_range(span, pa.concat_tables([self._hourly_counts(span)[source.table] for source in sources]), step, limit)

    def _hourly_counts(self, span: TimeRange) -> dict[str, pa.Table]:
        """Rows by the hour, per table; counted once, side by side, since several streams are cut by them."""
        if span not in self._counts:
            counts = self._pool.fetch_each(self._queries.hourly_counts(source, span) for source in self._sources)
            self._counts[span] = {source.table: count for source, count in zip(self._sources, counts, strict=True)}
        return self._counts[span]

    @cached_property
    def _ends(self) -> list[tuple[datetime | None, datetime | None]]:
        """First and last time of the bids and of the outcomes."""
        rows = [self._pool.fetch(self._queries.ends(source)).to_pylist()[0] for source in self._sources]
        return [(_in_utc(row["first"]), _in_utc(row["last"])) for row in rows]

    @cached_property
    def _extent(self) -> Extent:
        with self._pool.cursor() as cursor:
            return extent_of(cursor, self._queries, self._cadence)


@contextmanager
def open_snapshot(
    url: str, *, cadence: Cadence, chunk_rows: int = 250_000, silence: float = SILENCE_SECONDS
) -> Iterator[Snapshot]:
    """A snapshot of the database at `url` (a libpq URL), which lasts as long as the block.

    Raises `ContractError` where a table or a required column is missing or of a type that cannot be read,
    `DatabaseUnreachableError` where the database is, or says nothing for `silence` seconds.
    """
    with open_snapshot_pool(url, silence=silence) as pool:
        yield Snapshot(pool, cadence, chunk_rows)


def _batches(chunks: Iterator[pa.Table], schema: pa.Schema, order: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    for parts in map(_in_order, chunks, repeat(order)):
        for part in parts:
            yield from _conformed(part, schema).to_batches()


def _in_order(chunk: pa.Table, order: tuple[str, ...]) -> Iterator[pa.Table]:
    """The rows of a chunk sorted, in parts; as they came where they came in order."""
    indices = pc.sort_indices(chunk.select(list(order)), sort_keys=[(name, "ascending") for name in order])
    if np.array_equal(indices, np.arange(chunk.num_rows)):
        yield from (pa.Table.from_batches([batch]) for batch in chunk.to_batches(_BATCH_ROWS))
        return
    chunk = chunk.combine_chunks()
    for start in range(0, chunk.num_rows, _BATCH_ROWS):
        yield chunk.take(indices.slice(start, _BATCH_ROWS))


def _by_window(pairs: pa.Table, rows: pa.Table, schema: pa.Schema, readability: ReadabilityCounts) -> Iterator[pa.RecordBatch]:
    """Each row once per window that references it, by window and id."""
    rows = rows.sort_by("id")
    windows, indices = match_rows(pairs, rows)
    for index, name in enumerate(rows.column_names):
        if name.startswith(REASON_OF):
            readability.put(name.removeprefix(REASON_OF), windows, rows[name].combine_chunks().take(indices))
        elif name in schema.names and schema.field(name).type == TEXTS:
            lists, reasons = text_lists(rows[name])
            rows = rows.set_column(index, name, lists)
            readability.put(name, windows, reasons.take(indices))
    rows = _conformed(rows, _without_window(schema))
    for start in range(0, len(indices), _BATCH_ROWS):
        columns = rows.take(indices.slice(start, _BATCH_ROWS)).columns
        batch = pa.Table.from_arrays([windows.slice(start, _BATCH_ROWS), *columns], schema=schema)
        yield from batch.combine_chunks().to_batches()


def _without_window(schema: pa.Schema) -> pa.Schema:
    return schema.remove(schema.get_field_index("window"))


def _conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with JSON texts unwrapped and exactly the schema of the contract."""
    columns = []
    for field in schema:
        column = rows[field.name]
        if field.name in _JSON_TEXTS:
            column = unwrapped(column)
        columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _in_utc(moment: datetime | None) -> datetime | None:
    """Arrow's UTC is a zone of zoneinfo, which does not equal Python's own."""
    return moment and moment.astimezone(UTC)
