"""A simulated market into the application's database, by bulk copy in one transaction, and its truth into a file beside it."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from bid_assets.app_db.connections import engine
from bid_assets.app_db.schema import create_tables
from bid_assets.common.progress import ProgressCallback, report_progress
from bid_assets.simulation.simulate import Marketplace
from bid_assets.simulation.truth import TRUTH_FILE, write_truth

_ROWS_AT_A_TIME = 20_000
_MARKET_LOCK = 6_262_001  # any number; a lock of this database only


class DatabaseNotEmptyError(RuntimeError):
    """The application's tables hold rows, and nobody said that they may be replaced."""


class MarketInUseError(RuntimeError):
    """Another process plays the market of this database."""


def lock_market(cursor: Any, *, until: str) -> None:
    """Be the only one who writes a simulated market into this database, until the end of the `session` or `transaction`.

    Raises `MarketInUseError` if somebody else is that.
    """
    if cursor.connection.is_pooled:
        raise MarketInUseError(
            "a simulated market is written and played over a connection of its own, not through a pooler such as PgBouncer"
        )
    lock = {"session": "pg_try_advisory_lock", "transaction": "pg_try_advisory_xact_lock"}[until]
    cursor.execute(f"SELECT {lock}({_MARKET_LOCK})")
    if not cursor.fetchone()[0]:
        raise MarketInUseError(
            "another process plays or writes the simulated market of this database; let it end, or stop it, first"
        )


def write(
    marketplace: Marketplace,
    url: str,
    truth_folder: Path,
    progress: ProgressCallback = report_progress,
    *,
    replace: bool = False,
) -> None:
    """Write all tables, or none, and then the truth. Makes the tables that are not there.

    Raises `DatabaseNotEmptyError` if one of them holds rows, unless `replace`: then all rows of the four tables are removed
    first; and `MarketInUseError` while the market that is there is being played.
    """
    tables = {
        "profiles": marketplace.profiles,
        "jobs": marketplace.jobs,
        "bids": marketplace.bids,
        "bid_outcomes": marketplace.outcomes,
    }
    truth_folder.mkdir(parents=True, exist_ok=True)
    partial = truth_folder / f"{TRUTH_FILE}.partial"
    write_truth(marketplace.truth, marketplace.options, partial)
    db_engine = engine(url)
    try:
        create_tables(db_engine)
        with db_engine.begin() as connection:
            cursor: Any = connection.connection.cursor()
            lock_market(cursor, until="transaction")
            _require_empty_tables(cursor, list(tables), replace)
            _copy(cursor, tables, progress)
        partial.replace(truth_folder / TRUTH_FILE)
        with db_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM ANALYZE {', '.join(tables)}")  # or the first read finds no covering index
    finally:
        db_engine.dispose()
        partial.unlink(missing_ok=True)


def _require_empty_tables(cursor: Any, tables: list[str], replace: bool) -> None:
    """Leave the tables empty, and nobody else writing to them until the transaction ends."""
    cursor.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE")
    if replace:
        cursor.execute(f"TRUNCATE {', '.join(tables)}")
        return
    for table in tables:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {table})")
        if cursor.fetchone()[0]:
            raise DatabaseNotEmptyError(
                f"table {table} of the application's database holds rows already; a simulated market is written into "
                "empty tables only. To remove all rows of profiles, jobs, bids and bid_outcomes first, say --replace"
            )


def _copy(cursor: Any, tables: dict[str, pa.Table], progress: ProgressCallback) -> None:
    done, total = 0, sum(len(table) for table in tables.values())
    for name, table in tables.items():
        statement = f"COPY {name} ({', '.join(table.column_names)}) FROM STDIN WITH (FORMAT csv)"
        for rows, text in _csv(table):
            cursor.copy_expert(statement, text)
            done += rows
            progress("writing the marketplace", done, total)


def _csv(table: pa.Table) -> Iterator[tuple[int, BytesIO]]:
    """Slices of the table as CSV: texts quoted, so that an empty one is not taken for a missing one."""
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        rows = table.slice(start, _ROWS_AT_A_TIME)
        text = BytesIO()
        pacsv.write_csv(rows, text, pacsv.WriteOptions(include_header=False, quoting_style="needed"))
        text.seek(0)
        yield len(rows), text
