"""The prediction service beside others that do the same: each metric of docs/results/performance.md, in one run on one machine.

    make bench-serving

One worker process of the service, with an API key, logs and prediction log on; a simulated market, the static encoder.
Contenders that are compared take turns. wrk asks from the same machine, so a server has about one core to itself.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import psutil
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bid_assets.features.embeddings.encoder import CachedEncoder, make_encoder
from bid_assets.settings import Settings
from bid_assets_tests.benchmarks.serving import contenders, open_loop, wrk
from bid_assets_tests.benchmarks.serving.contenders import Bodies

BATCH = 1000
console = Console(width=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mlflow",
        type=lambda path: Path(path).absolute(),
        help="Python of a virtual environment with MLflow and xgboost; unset: left out.",
    )
    parser.add_argument("--weeks", type=int, default=12)
    parser.add_argument("--bids", type=int, default=8000)
    parser.add_argument("--seconds", type=int, default=4, help="Of one turn under load; there are three.")
    parser.add_argument("--connections", type=int, default=16)
    asked = parser.parse_args()
    if not wrk.available():
        parser.error("wrk is not on this machine: apt-get install wrk")
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with contenders.market(folder, asked.weeks, asked.bids) as settings:
            bodies = contenders.bodies(settings, folder)
            console.print(
                f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores; a market of {asked.bids} bids; "
                f"a model of {len(bodies.columns)} numbers; {asked.connections} connections, {asked.seconds} s a turn"
            )
            with contenders.service(settings) as (url, _, key), contenders.peers(folder) as peers:
                if asked.mlflow is not None:
                    with contenders.mlflow(asked.mlflow, folder) as mlflow:
                        compare_ready(url, key, peers, mlflow, bodies, asked)
                else:
                    compare_ready(url, key, peers, None, bodies, asked)
                whole_predictions(url, key, bodies, asked)
                new_texts(url, key, bodies, settings)
                batches(url, key, peers, bodies)
            memory(settings, bodies)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare_ready(url: str, key: str, peers: str, mlflow: str | None, bodies: Bodies, asked: argparse.Namespace) -> None:
    """(a) One row of ready features a request: requests in a second."""
    frames = [{"columns": bodies.columns, "data": [row]} for row in bodies.rows]
    numbers = [
        {**body, "features": {name: _without_vectors(value) for name, value in body["features"].items()}}
        for body in bodies.ready
    ]
    turns: dict[str, Callable[[], wrk.Load]] = {}

    def contender(name: str, at: str, what: Sequence[object], with_key: str | None = None) -> None:
        turns[name] = lambda: wrk.load(at, what, seconds=asked.seconds, connections=asked.connections, key=with_key)

    contender("the service, /predict/features", f"{url}/predict/features", bodies.ready, key)
    contender("empty, never looks at the body", f"{peers}/empty", bodies.ready)
    contender("empty, declares its body", f"{peers}/parsed", bodies.ready)
    contender("the service, without text vectors", f"{url}/predict/features", numbers, key)
    contender("empty, never looks at that body", f"{peers}/empty", numbers)
    contender("empty, declares that body", f"{peers}/parsed", numbers)
    contender("FastAPI endpoint by DataFrame", f"{peers}/frame", frames)
    if mlflow is not None:
        contender("MLflow's scoring server", mlflow, [{"dataframe_split": frame} for frame in frames])
    loads: dict[str, list[wrk.Load]] = {name: [] for name in turns}
    for _ in range(3):
        for name, turn in turns.items():
            loads[name].append(turn())
    rates = {name: statistics.median(load.rate for load in found) for name, found in loads.items()}
    ours, lighter = rates["the service, /predict/features"], rates["the service, without text vectors"]
    table = Table("one row of ready features", "requests/s", "p50 ms", "p99 ms", "the service is", "expected")
    aim = {
        "MLflow's scoring server": ">= 10x",
        "empty, declares its body": ">= 0.6x",
        "empty, never looks at the body": ">= 0.6x",
    }
    for name, rate in rates.items():
        p50, p99 = (statistics.median(getattr(load, each) for load in loads[name]) for each in ("p50", "p99"))
        table.add_row(
            name,
            f"{rate:,.0f}",
            _ms(p50),
            _ms(p99),
            f"{(lighter if 'that body' in name or 'without' in name else ours) / rate:.2f}x",
            aim.get(name, ""),
        )
    console.print(table)


def whole_predictions(url: str, key: str, bodies: Bodies, asked: argparse.Namespace) -> None:
    """(b) `/predict` with look-ups in the database, every text seen before: at its peak, at half and at an eighth of it."""
    path = f"{url}/predict"
    peak = max(wrk.load(path, bodies.bids, seconds=asked.seconds, connections=8, key=key).rate for _ in range(3))
    table = Table("/predict, texts seen", "requests/s", "p50 ms", "p99 ms", "slowest ms", "expected")
    table.add_row("peak, 8 connections", f"{peak:,.0f}", "", "", "", "")
    for share, name, expected in ((2, "half of it, open loop", "p50 < 5, p99 < 25"), (8, "an eighth of it, open loop", "")):
        taken = open_loop.latencies(path, bodies.bids, rate=peak / share, seconds=15, key=key)
        p50, p99 = np.quantile(taken, [0.5, 0.99])
        table.add_row(name, f"{peak / share:,.0f}", _ms(p50), _ms(p99), _ms(taken.max()), expected)
    console.print(table)


def new_texts(url: str, key: str, bodies: Bodies, settings: Settings) -> None:
    """(c) `/predict` one after the other: texts seen before, texts never seen, and the encoder alone on texts like these."""
    times = 200
    number = iter(range(10**9))

    def unseen(bid: dict[str, Any]) -> dict[str, Any]:
        return {**bid, "bid_text": f"{bid['bid_text']} ({next(number)}, {time.monotonic_ns()})"}

    with httpx.Client(headers={"X-API-Key": key}, trust_env=False) as client:

        def ask(bid: dict[str, Any]) -> None:
            client.post(f"{url}/predict", json=bid).raise_for_status()

        bids = (bodies.bids * 2)[:times]
        seen = [_seconds(lambda bid=bid: ask(bid)) for bid in bids]  # type: ignore[misc]
        new = [_seconds(lambda bid=bid: ask(bid)) for bid in map(unseen, bids)]  # type: ignore[misc]
    encoder: CachedEncoder = make_encoder(settings.encoder, settings.home)
    texts = [[unseen(bid)["bid_text"]] for bid in bids]
    alone = [_seconds(lambda text=text: encoder.model.vectors(text)) for text in texts]  # type: ignore[misc]
    kept = [_seconds(lambda text=text: encoder.encode(pa.array(text))) for text in texts]  # type: ignore[misc]
    table = Table("/predict, one after the other", "p50 ms", "p95 ms", "expected")
    for name, found, aim in (
        ("texts seen", seen, ""),
        ("a new bid text", new, "what follows, plus 2"),
        ("the encoder alone", alone, ""),
        ("the encoder, and keeping the vector on disk", kept, ""),
    ):
        table.add_row(name, *(_ms(each) for each in np.quantile(found, [0.5, 0.95])), aim)
    extra = statistics.median(new) - statistics.median(seen) - statistics.median(alone)
    table.add_row("a new text costs beside the encoder", _ms(extra), "", "< 2")
    console.print(table)


def batches(url: str, key: str, peers: str, bodies: Bodies) -> None:
    """(d) A thousand bids in one request: rows in a second, beside an endpoint that makes a DataFrame of each request."""
    many = [number % len(bodies.bids) for number in range(BATCH)]
    frames = [{"columns": bodies.columns, "data": [row]} for row in bodies.rows]
    asked = {
        "the service, /predict/features with rows": (f"{url}/predict/features", {"rows": [bodies.ready[n] for n in many]}),
        "the service, /predict/batch (look-ups, history)": (f"{url}/predict/batch", {"bids": [bodies.bids[n] for n in many]}),
        "by DataFrame, all in one": (f"{peers}/frame", {"columns": bodies.columns, "data": [bodies.rows[n] for n in many]}),
    }
    taken = {"by DataFrame, one request for each": BATCH / wrk.load(f"{peers}/frame", frames, seconds=4, connections=1).rate}
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    with httpx.Client(headers=headers, trust_env=False, timeout=60) as client:
        for name, (at, body) in asked.items():
            content = orjson.dumps(body)
            taken[name] = min(_seconds(lambda: client.post(at, content=content).raise_for_status()) for _ in range(5))  # noqa: B023
    slow = taken["by DataFrame, one request for each"]
    table = Table(f"{BATCH} bids", "ms", "bids/s", "times one by one", "expected")
    for name, seconds in taken.items():
        aim = ">= 20x" if name.startswith("the service") else ""
        table.add_row(name, _ms(seconds), f"{BATCH / seconds:,.0f}", f"{slow / seconds:.1f}x", aim)
    console.print(table)


def memory(settings: Settings, bodies: Bodies) -> None:
    """What a second worker costs: memory of each of two, after both have answered."""
    table = Table("two workers, after 4 s of load", "resident MB", "its share MB", "its own MB")
    with contenders.service(settings, "--workers", "2") as (url, pid, key):
        wrk.load(f"{url}/predict", bodies.bids, seconds=4, connections=16, key=key)
        for child in psutil.Process(pid).children(recursive=True):
            used = child.memory_full_info()
            if used.rss > 50e6:
                table.add_row("worker", *(f"{size / 1e6:,.0f}" for size in (used.rss, used.pss, used.uss)))
    console.print(table)


def _without_vectors(value: Any) -> Any:
    return None if isinstance(value, list) and value and isinstance(value[0], float) else value


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


if __name__ == "__main__":
    main()
