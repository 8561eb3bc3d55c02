"""One outcome lands in the newest window: what bringing the features up to date costs, against a script that makes all anew.

    python -m bid_assets_tests.benchmarks.bench_refresh --weeks 26 260

The refresh is the loop's own: one run through Dagster of the raw tables and of the history features, of one window, its events
in PostgreSQL and its versions on disk. The script does what a straightforward one does: reads the tables whole with
pandas.read_sql, computes each bid's history with a filter on its profile's bids, encodes every text with the same static
encoder, and writes one Parquet file. Its history is computed for a sample of the bids and its time multiplied up.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bid_assets.app_db.connections import engine
from bid_assets.embedded_postgres.server import shared_server
from bid_assets.features.embeddings.encoder import make_encoder
from bid_assets.features.embeddings.model_files import static_model_folder
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.in_process_runs import materialize
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.run_history import REFRESH_ASSETS
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.conftest import CHECKOUT, fresh_databases, settings_for
from bid_assets_tests.platforms import call, execute

SAMPLE = 300


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def refresh(settings: Settings) -> float:
    """Best of three: an outcome lands, and the newest window is refreshed."""
    store = VersionStore(settings.resolved_store_url)
    window = store.partitions("raw_bids")[-1]
    inside = settings.cadence.window(window).end - timedelta(seconds=1)
    assert settings.app_db_url is not None
    seconds = []
    with open_instance() as instance:
        definitions = build_defs(settings, store)
        for number in range(4):  # the first one loads libraries
            execute(
                settings.app_db_url,
                "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) select "
                f"'bench-{number}', b.id, true, '{inside.isoformat()}' from bids b where b.amount > 0 "
                "and not exists (select from bid_outcomes o where o.bid_id = b.id) order by b.submitted_at desc limit 1",
            )
            seconds.append(timed(lambda: materialize(definitions, instance, REFRESH_ASSETS, [window])))
    return min(seconds[1:])


def script(settings: Settings, folder: Path) -> tuple[float, float]:
    """Seconds of everything, and of everything but the texts."""
    assert settings.app_db_url is not None
    database = engine(settings.app_db_url)
    start = time.perf_counter()
    bids, outcomes, jobs, profiles = (
        pd.read_sql(f"select * from {table}", database) for table in ("bids", "bid_outcomes", "jobs", "profiles")
    )
    known = outcomes.sort_values("outcome_timestamp").merge(
        bids[["id", "profile_id", "submitted_at"]], left_on="bid_id", right_on="id"
    )
    joined = bids.merge(jobs, left_on="job_id", right_on="id", how="left").merge(
        profiles, left_on="profile_id", right_on="id", how="left"
    )
    tables = time.perf_counter() - start
    dated = bids.dropna(subset=["submitted_at"])
    sample = dated.sample(min(SAMPLE, len(dated)), random_state=0)
    start = time.perf_counter()
    of_profile, known_of = (dict(list(table.groupby("profile_id"))) for table in (bids, known))
    grouping = time.perf_counter() - start
    rows = [history_of(bid, of_profile[bid.profile_id], known_of.get(bid.profile_id, known[:0])) for bid in sample.itertuples()]
    history = grouping + (time.perf_counter() - start - grouping) * len(bids) / len(rows)
    encoder_home = folder / "script"  # no text was seen there yet
    encoder_home.mkdir()
    (encoder_home / "encoders").symlink_to(static_model_folder(CHECKOUT / ".bid_assets" / "tests").parent)
    start = time.perf_counter()
    encoder = make_encoder("static", encoder_home)
    for column in ("generated_bid_text", "description"):
        encoder.encode(pa.array(joined[column].where(joined[column].notna(), None)))
    texts = time.perf_counter() - start
    start = time.perf_counter()
    joined.to_parquet(folder / "dataset.parquet")
    return tables + history + texts + (rest := time.perf_counter() - start), tables + history + rest


def history_of(bid: Any, mine: pd.DataFrame, known: pd.DataFrame) -> dict[str, float]:
    """Counts and rates as of one bid, as a script computes them from its profile's bids and outcomes."""
    then = bid.submitted_at
    decided = known[known.outcome_timestamp < then]
    found = {}
    for days in (7, 30, 90):
        since = then - timedelta(days=days)
        found[f"bids_{days}d"] = float(((mine.submitted_at >= since) & (mine.submitted_at < then)).sum())
        inside = decided[decided.submitted_at >= since].drop_duplicates("bid_id", keep="last")
        found[f"rate_{days}d"] = float(inside.is_success.mean()) if len(inside) else float("nan")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, nargs="+", default=[26, 260])
    parser.add_argument("--bids-a-week", type=int, default=770)
    options = parser.parse_args()
    table = Table("weeks of history", "bids", "refresh of one window", "script, all", "x", "script without texts", "x")
    for count in options.weeks:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            (folder / "home").mkdir()
            (folder / "home" / "encoders").symlink_to(static_model_folder(CHECKOUT / ".bid_assets" / "tests").parent)
            postgres = shared_server(folder / "postgres", durable=False)
            with fresh_databases(postgres) as new, settings_for(folder, new(), new()) as settings:
                call("marketplace", "create", "--weeks", str(count), "--bids", str(count * options.bids_a_week))
                call("run", "--cutoff-windows", "last")
                ours = refresh(settings)
                everything, without_texts = script(settings, folder)
            postgres.release()
        bids = f"{count * options.bids_a_week:,}"
        ratios = f"{everything / ours:.0f}", f"{without_texts / ours:.0f}"
        table.add_row(str(count), bids, f"{ours:.2f} s", f"{everything:.1f} s", ratios[0], f"{without_texts:.1f} s", ratios[1])
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
