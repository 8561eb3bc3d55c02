"""What remembering predictions costs a service that answers some 4,000 a second, and how many the log can write.

    python -m bid_assets_tests.benchmarks.bench_prediction_log --seconds 10

One thread answers by a fixed piece of work, one after the other, in turn without a log, with one, and with one whose
database does not answer. The server is an embedded one that makes every commit durable. Predictions have 100 features.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from bid_assets.embedded_postgres.server import EmbeddedServer, shared_server
from bid_assets.prediction_log.writer import PredictionLog, PredictionRecord
from bid_assets.settings import Settings

A_SECOND = 4000
FEATURES = 100
WORK = 12_000
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def predictions(count: int) -> list[PredictionRecord]:
    matrix = np.random.default_rng(0).random((count, FEATURES), np.float32)
    model, dataset = (f"{asset}_20261102_000000_0123abcd" for asset in ("trained_model", "training_dataset"))
    return [
        PredictionRecord(
            uuid4().hex, datetime.now(UTC), None, f"profile-{n % 500}", f"job-{n}", model, dataset, "active", 0.5, True, row
        )
        for n, row in enumerate(matrix)
    ]


def answering(
    made: Sequence[PredictionRecord], remember: Callable[[Sequence[PredictionRecord]], None]
) -> tuple[list[float], list[float]]:
    """Seconds that each answer took, and each `remember` within."""
    whole, adding = [], []
    for one in made:
        begun = time.perf_counter()
        sum(range(WORK))
        thought = time.perf_counter()
        remember([one])
        ended = time.perf_counter()
        adding.append(ended - thought)
        whole.append(ended - begun)
    return whole, adding


def cpu_of_server(pg: EmbeddedServer) -> float:
    main = psutil.Process(int((pg.data / "postmaster.pid").read_text().split()[0]))
    total = 0.0
    for each in [main, *main.children(recursive=True)]:
        try:
            total += sum(each.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--backlog", type=int, default=200_000, help="predictions written at once")
    options = arguments.parse_args()
    made = predictions(int(options.seconds * A_SECOND))
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)
    pg = shared_server(folder / "postgres")
    settings = Settings(home=folder, prediction_db_url=pg.url("predictions"), prediction_log_max_rows=10**6)
    table = Table(
        "", "answers/s", "answer us p50", "p99", "p99.9", "max", "add us p50", "p99", "us of the server each", "written"
    )
    for name, url in 2 * [("no log", None), ("log", settings.prediction_db_url), ("log, database absent", NOWHERE)]:
        log = PredictionLog(settings.model_copy(update={"prediction_db_url": url}))
        if url:
            log.add(predictions(1))
            time.sleep(1)
        before = cpu_of_server(pg)
        whole, adding = answering([replace(one, id=uuid4().hex) for one in made], log.add if url else lambda _: None)
        log.close(2)
        used = cpu_of_server(pg) - before
        metrics = [*np.percentile(whole, [50, 99, 99.9, 100]), *np.percentile(adding, [50, 99]), used / len(made)]
        table.add_row(
            name, f"{len(made) / sum(whole):,.0f}", *(f"{1e6 * metric:.1f}" for metric in metrics), f"{log.written:,}"
        )
    Console(width=140).print(table)
    log, many = PredictionLog(settings), predictions(options.backlog)
    log.add(many)
    mine, start = time.process_time(), time.perf_counter()
    log.close(120)
    took = time.perf_counter() - start
    print(
        f"{len(many) / took:,.0f} predictions/s written from a backlog, {1e6 * (time.process_time() - mine) / len(many):.1f} "
        f"us each of the service's CPU"
    )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    pg.release()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
