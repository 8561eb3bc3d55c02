"""What a tick of the sensors costs in the database, as the outcomes grow.

    python -m bid_assets_tests.benchmarks.bench_change_detection --outcomes 100000 1000000 10000000

`poll_new_rows` follows new rows (every few seconds), `fingerprints` compares windows (hourly). Best of five; the tables
lie in an embedded server without durability. One outcome in a second: ten million of them are sixteen weeks.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
from rich.console import Console
from rich.table import Table

from bid_assets.app_db.connections import engine, snapshot
from bid_assets.app_db.fingerprints import window_fingerprints
from bid_assets.app_db.new_rows import HighWaterMark, poll_new_rows
from bid_assets.app_db.schema import create_tables
from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.embedded_postgres.server import shared_server

NOW = datetime(2026, 11, 23, tzinfo=UTC)
OVERLAP = timedelta(hours=1)
LANDED = 100_000


def filled(url: str, outcomes: int) -> Any:
    """A connection to a database of so many outcomes, one each second until now, of a tenth as many bids."""
    database = engine(url)
    create_tables(database)
    database.dispose()
    connection = psycopg2.connect(url, options="-c timezone=UTC")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("insert into profiles (id) select 'p' || n from generate_series(0, 999) n")
        cursor.execute(
            "insert into bids (id, profile_id, job_id, amount, submitted_at) select 'b' || n, 'p' || n % 1000, 'j' || n, n, "
            f"'{NOW.isoformat()}'::timestamptz - n * interval '10 seconds' from generate_series(1, {outcomes // 10}) n"
        )
        cursor.execute(
            "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) select 'o' || n, 'b' || n / 10, n % 3 = 0, "
            f"'{NOW.isoformat()}'::timestamptz - n * interval '1 second' from generate_series(1, {outcomes}) n"
        )
        cursor.execute("vacuum analyze profiles, bids, bid_outcomes")
    return connection


def milliseconds(work: Callable[[], object]) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start)

    return min(once() for _ in range(5))


def measured(url: str, outcomes: int) -> list[float]:
    connection = filled(url, outcomes)
    now = NOW + timedelta(seconds=1)

    def poll(mark: HighWaterMark | None) -> Any:
        with snapshot(url) as cursor:
            return poll_new_rows(cursor, mark, Cadence.WEEKLY, OVERLAP, now)

    mark = poll(None).high_water_mark
    quiet = milliseconds(lambda: poll(mark))
    with connection.cursor() as cursor:
        recent = TimeRange(NOW - timedelta(weeks=1), NOW + timedelta(weeks=1))
        week = milliseconds(lambda: window_fingerprints(cursor, Cadence.WEEKLY, recent))
        start = time.perf_counter()
        window_fingerprints(cursor, Cadence.WEEKLY, None)
        everything = 1000 * (time.perf_counter() - start)
        cursor.execute(
            "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) "
            f"select 'new' || n, 'b' || n % 1000, true, '{NOW.isoformat()}' from generate_series(1, {LANDED}) n"
        )
    landed = milliseconds(lambda: poll(mark))
    after = poll(mark).high_water_mark
    still = milliseconds(lambda: poll(after))
    connection.close()
    return [quiet, landed, still, week, everything]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=int, nargs="+", default=[100_000, 1_000_000])
    table = Table(
        "outcomes",
        "nothing new",
        f"{LANDED:,} landed",
        "nothing new after them",
        "fingerprints: week",
        "all",
        title="milliseconds",
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        Path(name).chmod(0o755)
        postgres = shared_server(Path(name) / "postgres", durable=False)
        for outcomes in parser.parse_args().outcomes:
            metrics = measured(postgres.url(f"outcomes_{outcomes}"), outcomes)
            table.add_row(f"{outcomes:,}", *(f"{metric:,.1f}" for metric in metrics))
        postgres.release()
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
