"""From an outcome's commit to the decision about a new model: how long, and where the time goes.

    python -m bid_assets_tests.benchmarks.bench_loop --times 3

`bid-assets up` over a market of eight weeks, with the shortest sensor interval; outcomes are written by plain SQL, one
batch after the decision about the one before. The mean of each part, in seconds.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bid_assets.features.embeddings.model_files import static_model_folder
from bid_assets.orchestration.liveness import code_is_loaded
from bid_assets.orchestration.run_history import LoopRun, RunKind
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.loops import Loop, eventually, loop_in

PARTS = (
    "noticed, refresh asked for",
    "refresh queued and started",
    "raw tables and features",
    "policy asked, retraining asked for",
    "retraining queued and started",
    "dataset to decision",
    "all",
)


def one_turn(loop: Loop, hour: int) -> list[float]:
    """Seconds of each part, from the commit of five outcomes on."""
    known = {run.run_id for run in loop.runs()}
    loop.decide(5, loop.end + timedelta(hours=hour))
    commit = datetime.now(UTC)

    def ended(kind: RunKind) -> LoopRun | None:
        return next((run for run in loop.runs(kind) if run.run_id not in known and run.ended_at), None)

    refresh = eventually(lambda: ended(RunKind.REFRESH), 120)
    retraining = eventually(lambda: ended(RunKind.RETRAINING), 120)
    starts = []
    for run in (refresh, retraining):
        record = loop.instance.get_run_record_by_id(run.run_id)
        assert record is not None
        assert record.start_time is not None
        starts.append(datetime.fromtimestamp(record.start_time, UTC))
    assert refresh.ended_at is not None
    assert retraining.ended_at is not None
    moments = [commit, refresh.created_at, starts[0], refresh.ended_at, retraining.created_at, starts[1], retraining.ended_at]
    parts = [(after - before).total_seconds() for before, after in zip(moments, moments[1:], strict=False)]
    return [*parts, (moments[-1] - commit).total_seconds()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)
    with loop_in(folder, static_model_folder(CHECKOUT / ".bid_assets" / "tests")) as loop:
        loop.up()
        eventually(lambda: code_is_loaded(f"127.0.0.1:{loop.port}"), 90)
        time.sleep(20)  # the first ticks compare everything
        turns = [one_turn(loop, hour) for hour in range(1, times + 1)]
    shutil.rmtree(folder, ignore_errors=True)
    table = Table("part", "mean s", "slowest s")
    for name, metrics in zip(PARTS, zip(*turns, strict=True), strict=True):
        table.add_row(name, f"{sum(metrics) / len(metrics):.1f}", f"{max(metrics):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
