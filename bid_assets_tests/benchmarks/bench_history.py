"""How fast the history features of all bids are computed, against polars, DuckDB and a SQL function called for each bid.

    python -m bid_assets_tests.benchmarks.bench_history --bids 1000000

One process, the same rows, all 14 columns. "Exact" ways are compared with ours, cell by cell, and must agree. Rolling
windows cannot say which of the *window's bids* an outcome belongs to, nor take a corrected outcome back: they count outcomes by
the moment when these became known. That is how such features are often written; only their `bids_*` columns are compared.
The SQL function is called for a sample of bids, by a script's loop and by one statement for all, and its time is multiplied up.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import psycopg2
import pyarrow as pa

from bid_assets.app_db.contract import TIME
from bid_assets.common.windows import TimeRange
from bid_assets.features.families.profile_history import FAMILY, WINDOW_DAYS

START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = TimeRange(START, START + timedelta(days=730))
BIDS_PER_PROFILE = 200
COLUMNS = [feature.name for feature in FAMILY.features if not feature.name.startswith("failures_")]
"""Those that every way computes; failures are known outcomes less successes, which only ours writes down."""


def make_rows(bids: int) -> dict[str, pa.Table]:
    """Two years of bids; 85 in 100 get an outcome, after 12 days on average, and some of these are corrected."""
    chance = np.random.default_rng(0)
    submitted = np.sort(chance.integers(0, 730 * 86_400, bids)) * 1_000_000 + int(START.timestamp() * 1e6)
    decided = np.flatnonzero(chance.random(bids) < 0.85)
    bid = np.concatenate([decided, chance.choice(decided, bids // 20)])
    known = submitted[bid] + (chance.exponential(12, len(bid)) * 86_400e6).astype(np.int64)
    ids = pa.array([f"b{number}" for number in range(bids)])
    profiles = [f"p{number}" for number in chance.integers(0, max(1, bids // BIDS_PER_PROFILE), bids)]
    return {
        "raw_bids": pa.table({"id": ids, "profile_id": profiles, "submitted_at": pa.array(submitted).cast(TIME)}),
        "raw_bid_outcomes": pa.table(
            {
                "id": [f"o{number}" for number in range(len(bid))],
                "bid_id": ids.take(pa.array(bid)),
                "is_success": chance.random(len(bid)) < 0.3,
                "outcome_timestamp": pa.array(known).cast(TIME),
            }
        ),
    }


def ours(tables: dict[str, pa.Table]) -> pa.Table:
    return FAMILY.compute_table(tables, SPAN, None)


def polars_rolling(tables: dict[str, pa.Table]) -> pa.Table:
    """Bids and outcomes in one frame, rolling sums over each profile."""
    bids = pl.DataFrame(pl.from_arrow(tables["raw_bids"])).select("profile_id", bid="id", t="submitted_at")
    outcomes = pl.DataFrame(pl.from_arrow(tables["raw_bid_outcomes"])).select("is_success", bid="bid_id", t="outcome_timestamp")
    won = pl.col("is_success")
    events = [
        bids.with_columns(is_bid=True, bids=1, known_outcomes=0, successes=0, won_at=pl.lit(None, pl.Int64)),
        outcomes.join(bids.select("bid", "profile_id"), on="bid").select(
            "profile_id", "bid", "t", is_bid=False, bids=0, known_outcomes=1, successes=won.cast(pl.Int32),
            won_at=pl.when(won).then(pl.col("t").to_physical()),
        ),
    ]  # fmt: skip
    rolled = [
        pl.col(kind).rolling_sum_by("t", f"{w}d", closed="left").over("profile_id").alias(f"{kind}_{w}d")
        for kind in ("bids", "known_outcomes", "successes")
        for w in WINDOW_DAYS
    ]
    last = pl.col("won_at").rolling_max_by("t", f"{WINDOW_DAYS[-1]}d", closed="left").over("profile_id")
    found = pl.concat(events).sort("profile_id", "t").with_columns(*rolled, last=last).filter("is_bid")
    return found.select(
        pl.col("bid").alias("bid_id"),
        *(f"{kind}_{w}d" for kind in ("bids", "known_outcomes", "successes") for w in WINDOW_DAYS),
        *((pl.col(f"successes_{w}d") / pl.col(f"known_outcomes_{w}d")).alias(f"success_rate_{w}d") for w in WINDOW_DAYS),
        ((pl.col("t").to_physical() - pl.col("last")) / 86_400e6).alias("days_since_last_success"),
        (pl.col(f"bids_{WINDOW_DAYS[-1]}d") - pl.col(f"known_outcomes_{WINDOW_DAYS[-1]}d")).alias("open_bids"),
    ).to_arrow()


def _select(sums: Callable[[str, int], str], last: str) -> str:
    """The 14 columns in SQL from the sum of `bids`, `known` or `won` over a window, and the time of the last success."""
    columns = []
    for w in WINDOW_DAYS:
        bids, known, won = (sums(name, w) for name in ("bids", "known", "won"))
        columns += [f"{bids} AS bids_{w}d", f"{known} AS known_outcomes_{w}d", f"{won} AS successes_{w}d"]
        columns += [f"{won} * 1.0::float8 / nullif({known}, 0) AS success_rate_{w}d"]
    columns += [f"{sums('bids', WINDOW_DAYS[-1])} - {sums('known', WINDOW_DAYS[-1])} AS open_bids"]
    return ", ".join([*columns, f"extract(epoch FROM t - {last})::float8 / 86400 AS days_since_last_success"])


IN_FORCE = """
SELECT bid_id, is_success, outcome_timestamp AS since,
       lead(outcome_timestamp, 1, 'infinity') OVER (PARTITION BY bid_id ORDER BY outcome_timestamp, id) AS until
FROM raw_bid_outcomes
"""


def duckdb_windows(tables: dict[str, pa.Table]) -> pa.Table:
    """Bids and outcomes in one table, window functions over each profile."""
    frame = "RANGE BETWEEN INTERVAL {} DAY PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING"
    windows = ", ".join(f"w{w} AS (PARTITION BY profile_id ORDER BY t {frame.format(w)})" for w in WINDOW_DAYS)
    columns = _select(lambda name, w: f"coalesce(sum({name}) OVER w{w}, 0)", f"max(won_at) OVER w{WINDOW_DAYS[-1]}")
    return _duckdb(
        tables,
        f"""
        WITH events AS (
            SELECT id, profile_id, submitted_at AS t, 1 AS bids, 0 AS known, 0 AS won, NULL AS won_at FROM raw_bids
            UNION ALL
            SELECT NULL, profile_id, outcome_timestamp, 0, 1, is_success::int, CASE WHEN is_success THEN outcome_timestamp END
            FROM raw_bid_outcomes o JOIN raw_bids b ON b.id = o.bid_id)
        SELECT id AS bid_id, {columns} FROM events WINDOW {windows} QUALIFY id IS NOT NULL
        """,
    )


def duckdb_join(tables: dict[str, pa.Table]) -> pa.Table:
    """Each bid joined with the bids of the 90 days before it, and with the outcome of each that was in force."""
    past = {"bids": "count(past.id)", "known": "count(o.bid_id)", "won": "count(CASE WHEN o.is_success THEN 1 END)"}
    return _duckdb(
        tables,
        f"""
        WITH in_force AS ({IN_FORCE})
        SELECT b.id AS bid_id, any_value(b.submitted_at) AS t, {
            _select(
                lambda name, w: f"{past[name]} FILTER (past.submitted_at >= b.submitted_at - INTERVAL {w} DAY)",
                "max(o.since) FILTER (o.is_success)",
            )
        }
        FROM raw_bids b
        LEFT JOIN raw_bids past ON past.profile_id = b.profile_id AND past.submitted_at < b.submitted_at
             AND past.submitted_at >= b.submitted_at - INTERVAL {WINDOW_DAYS[-1]} DAY
        LEFT JOIN in_force o ON o.bid_id = past.id AND o.since < b.submitted_at AND b.submitted_at <= o.until
        GROUP BY b.id
        """,
    )


def _duckdb(tables: dict[str, pa.Table], query: str) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            connection.register(name, table)
        return connection.sql(query).to_arrow_table()


SQL_TABLES = """
CREATE TABLE raw_bids (id text PRIMARY KEY, profile_id text, submitted_at timestamptz);
CREATE TABLE raw_bid_outcomes (id text PRIMARY KEY, bid_id text, is_success boolean, outcome_timestamp timestamptz);
"""
SQL_FUNCTION = """
CREATE INDEX ON raw_bids (profile_id, submitted_at);
CREATE INDEX ON raw_bid_outcomes (bid_id, outcome_timestamp);
CREATE FUNCTION history(profile text, t timestamptz) RETURNS TABLE ({returns}) STABLE LANGUAGE sql AS $$
    SELECT {columns}
    FROM (SELECT b.submitted_at, 1 AS bids, (o.bid_id IS NOT NULL)::int AS known, coalesce(o.is_success, false)::int AS won,
                 CASE WHEN o.is_success THEN o.outcome_timestamp END AS won_at
          FROM raw_bids b
          LEFT JOIN LATERAL (SELECT * FROM raw_bid_outcomes WHERE bid_id = b.id AND outcome_timestamp < t
                             ORDER BY outcome_timestamp DESC, id DESC LIMIT 1) o ON true
          WHERE b.profile_id = profile AND b.submitted_at >= t - interval '{widest} days' AND b.submitted_at < t) past
$$;
"""


def fill_postgres(url: str, tables: dict[str, pa.Table]) -> None:
    """The rows, the indexes that a careful person would make, and the function."""
    columns = _select(
        lambda name, w: f"coalesce(sum({name}) FILTER (WHERE submitted_at >= t - interval '{w} days'), 0)", "max(won_at)"
    )
    names = [column.rsplit(" AS ", 1)[1] for column in columns.split(", ") if " AS " in column]
    function = SQL_FUNCTION.format(returns=", ".join(f"{n} float8" for n in names), columns=columns, widest=WINDOW_DAYS[-1])
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(SQL_TABLES)
        for name, table in tables.items():
            text = io.StringIO()
            csv.writer(text).writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
            text.seek(0)
            cursor.copy_expert(f"COPY {name} ({', '.join(table.column_names)}) FROM STDIN (FORMAT csv)", text)
        cursor.execute(function)
        cursor.execute("ANALYZE")


def call_by_call(url: str, asked: pa.Table) -> tuple[float, pa.Table]:
    """Seconds, and features, of the bids `asked`: a script's loop, one statement for each."""
    return _asked(url, [("SELECT %s AS bid_id, f.* FROM history(%s, %s) f", bid) for bid in _arguments(asked)])


def in_one_statement(url: str, asked: pa.Table) -> tuple[float, pa.Table]:
    """The same, the loop being the server's own."""
    values = ", ".join(["(%s, %s, %s::timestamptz)"] * len(asked))
    query = f"SELECT bid_id, f.* FROM (VALUES {values}) a (bid_id, profile, t), LATERAL history(a.profile, a.t) f"
    return _asked(url, [(query, [value for bid in _arguments(asked) for value in bid])])


def _arguments(asked: pa.Table) -> list[tuple[object, ...]]:
    return [(bid["id"], bid["profile_id"], bid["submitted_at"]) for bid in asked.to_pylist()]


def _asked(url: str, statements: Sequence[tuple[str, Sequence[object]]]) -> tuple[float, pa.Table]:
    rows = []
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        for query, values in statements:
            cursor.execute(query, values)
            rows += cursor.fetchall()
        seconds = time.perf_counter() - started
        names = [column.name for column in cursor.description]
    return seconds, pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))


def agree(found: pa.Table, expected: pa.Table, columns: list[str]) -> None:
    """Raise `AssertionError` where a cell of `found` is not that of `expected` for the same bid."""
    place = {bid: row for row, bid in enumerate(expected["bid_id"].to_pylist())}
    rows = pa.array([place[bid] for bid in found["bid_id"].to_pylist()])
    for name in columns:
        one, other = (
            table[name].cast(pa.float64()).fill_null(float("nan")).to_numpy() for table in (found, expected.take(rows))
        )
        np.testing.assert_allclose(one, other, rtol=1e-12, equal_nan=True, err_msg=name)


def timed(way: Callable[[dict[str, pa.Table]], pa.Table], tables: dict[str, pa.Table], repeats: int) -> tuple[float, pa.Table]:
    """The least seconds of `repeats` runs, and the result."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = way(tables)
        seconds.append(time.perf_counter() - started)
    return min(seconds), found


def compare(bids: int, repeats: int, sample: int) -> None:
    """Measure every way, check it, print the table."""
    from bid_assets.embedded_postgres.server import shared_server

    tables = make_rows(bids)
    print(f"{bids:,} bids, {tables['raw_bid_outcomes'].num_rows:,} outcomes, {len(COLUMNS)} columns", flush=True)
    base, expected = timed(ours, tables, repeats)
    _report("ours", base, base, "exact")
    counts = [f"bids_{w}d" for w in WINDOW_DAYS]
    for title, way, columns, note in (
        ("polars rolling", polars_rolling, counts, "outcomes by the moment they became known"),
        ("DuckDB windows", duckdb_windows, counts, "outcomes by the moment they became known"),
        ("DuckDB range join", duckdb_join, COLUMNS, "exact: every cell agrees with ours"),
    ):
        seconds, found = timed(way, tables, repeats if way is polars_rolling else 1)
        agree(found, expected, columns)
        _report(title, seconds, base, note)
    with tempfile.TemporaryDirectory(prefix="bench_history-") as folder:
        Path(folder).chmod(0o755)  # the server's user must be able to enter
        postgres = shared_server(Path(folder) / "postgres", durable=False)
        url = postgres.url("bench")
        fill_postgres(url, tables)
        rows = np.random.default_rng(1).choice(bids, min(sample, bids), replace=False)
        asked = tables["raw_bids"].take(pa.array(rows))
        for title, sql in (("SQL, one statement", in_one_statement), ("SQL, call by call", call_by_call)):
            sql(url, asked.slice(0, 100))
            seconds, found = sql(url, asked)
            agree(found, expected, COLUMNS)
            note = f"exact; {len(asked):,} bids in {seconds:.2f} s, multiplied up"
            _report(title, seconds * bids / len(asked), base, note)
        postgres.release()


def _report(title: str, seconds: float, base: float, note: str) -> None:
    print(f"{title:24}{seconds:>10.2f} s{seconds / base:>9.1f} x   {note}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bids", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sample", type=int, default=2_000, help="bids for which the SQL function is called")
    options = parser.parse_args()
    compare(options.bids, options.repeats, options.sample)


if __name__ == "__main__":
    main()
