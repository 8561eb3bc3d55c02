"""A pool of connections that share one snapshot of a database, so that the next query runs while its predecessor's rows arrive.

The first connection opens a REPEATABLE READ, READ ONLY transaction and exports its snapshot; the others import it. The queries
are those of `snapshot_reader.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from queue import SimpleQueue
from typing import Any

import adbc_driver_manager as adbc
import pyarrow as pa

from bid_assets.app_db.arrow_connections import BATCH, ArrowConnections
from bid_assets.app_db.connections import SILENCE_SECONDS, bulk_read_parameters, set_config, translate_errors

POOL_SIZE = 2
"""One query's rows are decoded while the server works on the next; more would only take more memory."""

MAX_PREFETCHED = POOL_SIZE + 1
"""So many results are held at a time: each connection works on one, or has one ready, while one is being used."""

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_PLANNING = {
    "work_mem": "64MB",
    "max_parallel_workers_per_gather": "0",  # a guest in someone's database; with two connections it gains nothing
}


class ArrowCursor:
    """As much of a DB-API cursor as is needed here: the driver's own loads polars, which takes longer than to connect."""

    def __init__(self, statement: adbc.AdbcStatement, url: str, connections: ArrowConnections) -> None:
        self._statement, self._url, self._connections = statement, url, connections
        self._rows = pa.table({})
        statement.set_options(**BATCH)

    def execute(self, query: str, texts: pa.Array | None = None) -> None:
        """Run one statement, with `texts` bound to its `$1` (a `text[]`) if there is one; its rows are fetched at once.

        Raises as `connections.translate_errors`. The deadline is for each wait: for the first rows, and for more rows.
        """
        with translate_errors(self._url):
            with self._connections.deadline():
                self._statement.set_sql_query(query)
                if texts is not None:
                    self._statement.prepare()
                    self._statement.bind(pa.record_batch([_as_list(texts)], ["texts"]))
                stream, _ = self._statement.execute_query()
                rows = pa.RecordBatchReader.from_stream(stream)
            batches = []
            while True:
                with self._connections.deadline():
                    batch = next(rows, None)
                if batch is None:
                    break
                batches.append(batch)
            self._rows = pa.Table.from_batches(batches, rows.schema)

    def fetch_arrow_table(self) -> pa.Table:
        """All rows; they can be fetched once."""
        rows, self._rows = self._rows, pa.table({})
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows, as tuples."""
        return list(zip(*(column.to_pylist() for column in self.fetch_arrow_table().columns), strict=True))


class SnapshotConnectionPool:
    """Connections that run queries against one snapshot. Made by `open_snapshot_pool`; safe to use from several threads."""

    def __init__(self, cursors: list[ArrowCursor], executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._free: SimpleQueue[ArrowCursor] = SimpleQueue()
        for cursor in cursors:
            self._free.put(cursor)

    @contextmanager
    def cursor(self) -> Iterator[ArrowCursor]:
        """A cursor for as long as the block runs."""
        cursor = self._free.get()
        try:
            yield cursor
        finally:
            self._free.put(cursor)

    def fetch(self, query: str, texts: pa.Array | None = None) -> pa.Table:
        """All rows of one query, with `texts` bound to its `$1` (a `text[]`) if there is one."""
        with self.cursor() as cursor:
            cursor.execute(query, texts)
            return cursor.fetch_arrow_table()

    def fetch_each(self, queries: Iterable[str], texts: Iterable[pa.Array | None] = repeat(None)) -> Iterator[pa.Table]:
        """The rows of each query, in order; each with its `texts`. At most `MAX_PREFETCHED` results are held at a time."""
        waiting: deque[Future[pa.Table]] = deque()
        for query, bound in zip(queries, texts, strict=False):
            waiting.append(self._executor.submit(self.fetch, query, bound))
            if len(waiting) == MAX_PREFETCHED:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def open_snapshot_pool(url: str, *, silence: float = SILENCE_SECONDS) -> Iterator[SnapshotConnectionPool]:
    """Connect and hold the snapshot for as long as the block runs. Raises as `connections.translate_errors`."""
    with ExitStack() as stack:
        connections = ArrowConnections(url, POOL_SIZE, silence=silence)
        stack.callback(connections.close)
        statements = [stack.enter_context(adbc.AdbcStatement(connection)) for connection in connections.connections]
        cursors = [ArrowCursor(statement, url, connections) for statement in statements]
        parameters = set_config({**_PLANNING, **bulk_read_parameters(connections.options)}, local=True)
        for cursor in cursors:
            cursor.execute(_BEGIN)
            if cursor is cursors[0]:
                cursor.execute("SELECT pg_export_snapshot()")
                ((snapshot,),) = cursor.fetchall()
            else:
                cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            cursor.execute(parameters)
        executor = stack.enter_context(ThreadPoolExecutor(POOL_SIZE, thread_name_prefix="app_db"))
        stack.callback(executor.shutdown, cancel_futures=True)
        try:
            yield SnapshotConnectionPool(cursors, executor)
        except BaseException:
            connections.shut()  # or the end would wait for what the other connection is doing
            raise


def _as_list(texts: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
