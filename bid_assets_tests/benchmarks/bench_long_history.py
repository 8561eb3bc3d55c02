"""A history of many weekly windows with few bids in each: what the number of windows costs, in `bid-assets run`.

    python -m bid_assets_tests.benchmarks.bench_long_history --weeks 1356 --bids 12900

Each run is a process of its own, as a user starts it. Its CPU time is that of the process, without the database's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bid_assets.embedded_postgres.server import shared_server
from bid_assets.features.embeddings.model_files import static_model_folder
from bid_assets_tests.conftest import CHECKOUT, fresh_databases, settings_for
from bid_assets_tests.platforms import call

RUN = """
import sys, time
from pathlib import Path
from bid_assets.cli import main
from bid_assets.common.progress import on_progress

start, first = time.monotonic(), []

def listen(stage, done, total):
    if stage == "raw_bids" and not first:
        first.append(time.monotonic() - start)

try:
    with on_progress(listen):
        main(["run", "--json"])
finally:
    Path(sys.argv[1]).write_text(str(first[0]) if first else "")
"""
"""`bid-assets run` that writes into a file how long it took until the first window was read."""


def measured_run(folder: Path) -> tuple[str, float, float]:
    """Seconds until the first window was read (empty: none was), of the whole, and of CPU."""
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", RUN, str(folder / "first")], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 3), f"bid-assets run ended with {process.returncode}"
    first = (folder / "first").read_text()
    return first and f"{float(first):.1f}", time.monotonic() - begin, usage.ru_utime + usage.ru_stime


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=1356)
    parser.add_argument("--bids", type=int, default=12_900)
    options = parser.parse_args(arguments)
    table = Table("", "first window read, s", "all, s", "CPU, s", title=f"{options.weeks} weeks, {options.bids:,} bids")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "home").mkdir()
        (folder / "home" / "encoders").symlink_to(static_model_folder(CHECKOUT / ".bid_assets" / "tests").parent)
        postgres = shared_server(folder / "postgres", durable=False)
        with fresh_databases(postgres) as new, settings_for(folder, new(), new()):
            call("marketplace", "create", "--weeks", str(options.weeks), "--bids", str(options.bids))
            for run in ("the first run", "again, with nothing new"):
                first, seconds, cpu = measured_run(folder)
                table.add_row(run, first, f"{seconds:.1f}", f"{cpu:.1f}")
        postgres.release()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
