"""How fast, and in how much memory, the reader gets everything out of PostgreSQL, against `pandas.read_sql` of one join.

    python -m bid_assets_tests.benchmarks.bench_extraction --bids 1000000

Fills a fresh embedded database with made-up bids (texts of ~700 characters that do not compress), then measures each way
in a process of its own. Times are medians of `--repeats` runs after the database is warm; peaks are resident memory of
the process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from bid_assets.common.windows import Cadence

PROFILES = 5_000
BIDS_PER_JOB = 10

FILL = """
INSERT INTO profiles (id, name, profile_type, experience_level, skills, created_at)
SELECT 'p' || g, 'Profile ' || g, (ARRAY['personal', 'agency'])[1 + g % 2],
       (ARRAY['entry', 'intermediate', 'expert'])[1 + g % 3], '["python", "sql", "skill' || g % 50 || '"]',
       timestamptz '2022-01-01' + g * interval '1 hour'
FROM generate_series(0, {profiles} - 1) g;

INSERT INTO jobs (id, title, description, category, required_skills, client_id, posted_at)
SELECT 'j' || g, 'Job ' || g, (SELECT string_agg(md5(g || '/' || k), ' ') FROM generate_series(1, 10) k),
       'category ' || g % 10, '["python", "skill' || g % 50 || '"]', 'c' || g % 1000,
       timestamptz '2023-01-02' + g * interval '10 minutes'
FROM generate_series(0, {bids} / {per_job}) g;

INSERT INTO bids (id, profile_id, job_id, amount, generated_bid_text, status, prompt_template_id,
                  bid_settings_snapshot, external_signals_snapshot, submitted_at)
SELECT 'b' || g, 'p' || (g::bigint * 7919) % {profiles},
       'j' || greatest(0, g / {per_job} - (g::bigint * 31) % 200), 100 + g % 900,
       (SELECT string_agg(md5(g || '-' || k), ' ') FROM generate_series(1, 21) k), 'sent', 't' || g % 5,
       '{{"budget": ' || g % 900 || ', "duration_weeks": 4, "is_fixed_price": true}}',
       '{{"source": "feed", "rank": ' || g % 100 || '}}', timestamptz '2023-01-02' + g * interval '1 minute'
FROM generate_series(0, {bids} - 1) g;

INSERT INTO bid_outcomes (id, bid_id, is_success, outcome_timestamp, details)
SELECT 'o' || g, 'b' || g, g % 3 = 0, timestamptz '2023-01-02' + g * interval '1 minute' + g % 40 * interval '1 day', 'seen'
FROM generate_series(0, {bids} - 1) g WHERE g % 10 <> 0;
"""

JOIN = """
SELECT b.*, p.name, p.profile_type, p.experience_level, p.skills, p.created_at,
       j.title, j.description, j.category, j.required_skills, j.client_id, j.posted_at,
       o.id AS outcome_id, o.is_success, o.outcome_timestamp, o.details
FROM bids b LEFT JOIN profiles p ON p.id = b.profile_id LEFT JOIN jobs j ON j.id = b.job_id
LEFT JOIN bid_outcomes o ON o.bid_id = b.id
"""


def fill(url: str, bids: int) -> None:
    """Make the tables and `bids` bids; vacuumed, as a database is that has been up for some minutes."""
    from bid_assets.app_db.connections import engine
    from bid_assets.app_db.schema import create_tables

    database = engine(url)
    create_tables(database)
    with database.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(FILL.format(bids=bids, profiles=PROFILES, per_job=BIDS_PER_JOB))
        cursor.execute("VACUUM ANALYZE")


def by_stream(url: str) -> dict[str, int]:
    """Every stream of the whole history, consumed and forgotten."""
    from bid_assets.app_db.contract import STREAMS
    from bid_assets.app_db.snapshot_reader import open_snapshot

    with open_snapshot(url, cadence=Cadence.WEEKLY) as snapshot:
        span = snapshot.extent()
        assert span is not None
        return {name: sum(batch.num_rows for batch in snapshot.stream(name, span)) for name in STREAMS}


def as_tables(url: str) -> dict[str, int]:
    """Every stream of the whole history, kept as Arrow tables."""
    from bid_assets.app_db.snapshot_reader import open_snapshot

    with open_snapshot(url, cadence=Cadence.WEEKLY) as snapshot:
        span = snapshot.extent()
        assert span is not None
        return {name: table.num_rows for name, table in snapshot.read(span).items()}


def by_pandas(url: str) -> dict[str, int]:
    """What a script would do: one join of the four tables into a DataFrame."""
    import pandas as pd

    from bid_assets.app_db.connections import engine

    with engine(url).connect() as connection:
        return {"joined": len(pd.read_sql(JOIN, connection))}


WAYS: dict[str, tuple[str, Callable[[str], dict[str, int]]]] = {
    "stream": ("reader, streamed", by_stream),
    "tables": ("reader, kept as tables", as_tables),
    "pandas": ("pandas.read_sql of a join", by_pandas),
}


def measure(way: str, url: str) -> dict[str, object]:
    """Seconds, rows and peak memory (MiB) of this process for one way."""
    started = time.perf_counter()
    rows = WAYS[way][1](url)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rows": rows, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_child(way: str, url: str) -> dict[str, object]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--measure", way, "--url", url]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def compare(bids: int, repeats: int) -> None:
    """Fill, measure, print."""
    from bid_assets.embedded_postgres.server import shared_server

    with tempfile.TemporaryDirectory(prefix="bench_extraction-") as folder:
        Path(folder).chmod(0o755)  # the server's user must be able to enter
        postgres = shared_server(Path(folder) / "postgres", durable=False)
        url = postgres.url("bench")
        print(f"filling {bids:,} bids ...", flush=True)
        fill(url, bids)
        in_child("stream", url)
        runs = {way: [in_child(way, url) for _ in range(repeats)] for way in WAYS}
        postgres.release()
    seconds = {way: statistics.median(run["seconds"] for run in found) for way, found in runs.items()}
    peaks = {way: max(run["peak"] for run in found) for way, found in runs.items()}
    print(f"{'':28}{'seconds':>9}{'bids/s':>12}{'peak MiB':>10}{'x faster':>10}{'memory':>8}")
    for way, (title, _) in WAYS.items():
        faster, memory = seconds["pandas"] / seconds[way], peaks[way] / peaks["pandas"]
        print(f"{title:28}{seconds[way]:>9.2f}{bids / seconds[way]:>12,.0f}{peaks[way]:>10,.0f}{faster:>10.1f}{memory:>8.2f}")
    print("rows:", runs["stream"][0]["rows"], f"(pyarrow {pa.__version__})")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bids", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.url)))
    else:
        compare(options.bids, options.repeats)


if __name__ == "__main__":
    main()
