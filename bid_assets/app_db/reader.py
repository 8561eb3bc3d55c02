"""Reads the application's tables as Arrow, for any range of windows, all from one snapshot of the database.

Rows come by ADBC in chunks of bounded size: a range is first counted by time and cut, then each cut is one query, sorted
here, so that the order of rows depends neither on the database's physical order nor on its collation. What is asked of
the database is in `queries.py`; what the rows must look like in `contract.py`.

    with open_snapshot(url, cadence=Cadence.WEEKLY) as snapshot:
        span = snapshot.extent()
        for batch in snapshot.stream("raw_bids", span): ...

Everything stays in one REPEATABLE READ, READ ONLY transaction, without parallel workers: a guest in someone's database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import StatementOptions, dbapi

from bid_assets.app_db.contract import REQUIRED_COLUMNS, STREAMS, TEXTS
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.json_columns import text_lists, unwrapped
from bid_assets.app_db.queries import Queries, RowSource
from bid_assets.windows import MONDAY, Cadence, TimeRange

_BATCH_ROWS = 32_768
_SESSION = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL TIME ZONE 'UTC'",
    "SET LOCAL client_encoding = 'UTF8'",
    "SET LOCAL jit = off",
    "SET LOCAL work_mem = '64MB'",
    "SET LOCAL max_parallel_workers_per_gather = 0",  # handing wide rows from workers costs more than they save
)
_SHORT_ROWS = 4  # an outcome or a rejected row takes a fraction of a bid's memory
_JSON_TEXTS = ("bid_settings_snapshot", "external_signals_snapshot")
_ORDER = {
    "raw_bids": ("submitted_at", "id"),
    "raw_bid_outcomes": ("outcome_timestamp", "id"),
    "raw_jobs": ("window", "id"),
    "raw_profiles": ("window", "id"),
    "rejected_rows": ("window", "table", "id", "reason"),
}


class Snapshot:
    """One consistent view of the application's database. Made by `open_snapshot`; not for several threads at once."""

    def __init__(self, cursor: Any, cadence: Cadence, chunk_rows: int) -> None:
        self._cursor = cursor
        self._cadence = cadence
        self._chunk_rows = chunk_rows
        self._queries = Queries(contract_columns(cursor), cadence)
        self._sources = (self._queries.bids, self._queries.outcomes)

    def extent(self) -> TimeRange | None:
        """From the first bid or outcome to just after the last one, rejected rows included; None where there is none."""
        ends = [end for first_and_last in self._ends for end in first_and_last if end is not None]
        return TimeRange(min(ends), max(ends) + timedelta(microseconds=1)) if ends else None

    def watermark(self) -> dict[str, int | str | None]:
        """How many rows each table has and the newest times, as JSON can hold it: two equal ones mean nothing was added."""
        counts = {table: self._one_row(f"SELECT count(*) FROM {table}")[0] for table in REQUIRED_COLUMNS}
        newest = ("newest_submitted_at", "newest_outcome_timestamp")
        times = {name: last and last.isoformat() for name, (_, last) in zip(newest, self._ends, strict=True)}
        return {**counts, **times}

    def read(self, span: TimeRange) -> dict[str, pa.Table]:
        """Every stream of `span`, whole, by name."""
        return {name: self.stream(name, span).read_all() for name in STREAMS}

    def stream(self, name: str, span: TimeRange) -> pa.RecordBatchReader:
        """The rows of `span` with the schema `STREAMS[name]`, by window, within a window by time and id.

        A bid or an outcome belongs to the window of its own time; jobs and profiles to each window whose valid bids
        name them; a rejected row to its own time's window, or without one to the window of the newest dated bid.
        Memory holds about `chunk_rows` rows at a time (a whole window, where jobs and profiles are concerned).
        """
        schema = STREAMS[name]
        chunks = {
            "raw_bids": lambda: self._valid(self._queries.bids, schema, span, self._chunk_rows),
            "raw_bid_outcomes": lambda: self._valid(self._queries.outcomes, schema, span, _SHORT_ROWS * self._chunk_rows),
            "raw_jobs": lambda: self._named("jobs", "job_id", schema, span),
            "raw_profiles": lambda: self._named("profiles", "profile_id", schema, span),
            "rejected_rows": lambda: self._rejected(span),
        }[name]
        return pa.RecordBatchReader.from_batches(schema, _sorted_batches(chunks, schema, _ORDER[name]))

    def _valid(self, source: RowSource, schema: pa.Schema, span: TimeRange, limit: int) -> Iterator[pa.Table]:
        for chunk in self._chunks([source], span, timedelta(hours=1), limit):
            yield self._fetch(self._queries.valid_rows(source, schema, chunk))

    def _named(self, table: str, named_by: str, schema: pa.Schema, span: TimeRange) -> Iterator[pa.Table]:
        for chunk in self._chunks([self._queries.bids], span, self._cadence.length, self._chunk_rows):
            yield self._fetch(self._queries.named_rows(table, named_by, schema, chunk))

    def _rejected(self, span: TimeRange) -> Iterator[pa.Table]:
        limit = _SHORT_ROWS * self._chunk_rows
        for chunk in self._chunks(self._sources, span, self._cadence.length, limit):
            queries = [self._queries.rejected_rows(source, chunk) for source in self._sources]
            if self._home_of_undated in chunk:
                queries += [self._queries.undated_rows(source, self._home_of_undated) for source in self._sources]
            yield pa.concat_tables([self._fetch(query) for query in queries])

    def _chunks(self, sources: Iterable[RowSource], span: TimeRange, bucket: timedelta, limit: int) -> Iterator[TimeRange]:
        """Cuts `span` at multiples of `bucket` so that each part holds about `limit` rows of the sources."""
        counted = [
            self._fetch(self._queries.counts(source, span, f"{bucket.total_seconds():.0f} seconds")) for source in sources
        ]
        counts = pa.concat_tables(counted).group_by("bucket").aggregate([("rows", "sum")]).sort_by("bucket")
        part = np.cumsum(counts["rows_sum"].to_numpy()) // limit
        cuts = counts["bucket"].filter(pa.array(np.diff(part, prepend=part[:1]) > 0)).to_pylist()
        edges = [span.start, *(cut for cut in cuts if cut > span.start), span.end]
        yield from (TimeRange(start, end) for start, end in zip(edges, edges[1:], strict=False))

    @cached_property
    def _ends(self) -> list[tuple[datetime | None, datetime | None]]:
        """First and last time of the bids and of the outcomes."""
        return [self._one_row(self._queries.ends(source)) for source in self._sources]

    @cached_property
    def _home_of_undated(self) -> datetime:
        """The time that stands in for a missing one: the newest bid's, else the newest outcome's."""
        (_, newest_bid), (_, newest_outcome) = self._ends
        return newest_bid or newest_outcome or MONDAY

    def _fetch(self, query: str) -> pa.Table:
        self._cursor.execute(query)
        return self._cursor.fetch_arrow_table()

    def _one_row(self, query: str) -> tuple[Any, ...]:
        self._cursor.execute(query)
        row: tuple[Any, ...] = self._cursor.fetchone()
        return row


@contextmanager
def open_snapshot(url: str, *, cadence: Cadence, chunk_rows: int = 250_000) -> Iterator[Snapshot]:
    """A snapshot of the database at `url` (a libpq URL), which lasts as long as the block.

    Raises `ContractError` where a table or a required column is missing or of a type that cannot be read.
    """
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(1 << 30)})
        for statement in _SESSION:
            cursor.execute(statement)
        yield Snapshot(cursor, cadence, chunk_rows)


def _sorted_batches(
    chunks: Callable[[], Iterator[pa.Table]], schema: pa.Schema, order: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """The rows of each chunk in order. A chunk is copied batch by batch, never whole."""
    for chunk in chunks():
        keys = pa.table([chunk[name] for name in order], names=list(order))
        indices = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in order])
        for start in range(0, chunk.num_rows, _BATCH_ROWS):
            rows = chunk.take(indices.slice(start, _BATCH_ROWS))
            yield from _conformed(rows, schema).to_batches()


def _conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with JSON read and exactly the schema of the contract."""
    columns = []
    for field in schema:
        column = rows[field.name]
        if field.type == TEXTS:
            column = text_lists(column)
        elif field.name in _JSON_TEXTS:
            column = unwrapped(column)
        columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)
