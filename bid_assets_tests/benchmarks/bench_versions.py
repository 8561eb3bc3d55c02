"""The version store on 240 windows (2,640 versions): reading heads and lineage, leaving what is unchanged alone, hashing.

Processor time, best of three. Run: python -m bid_assets_tests.benchmarks.bench_versions
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bid_assets.version_store.content_hash import table_hash
from bid_assets.version_store.lineage import downstream, upstream
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.version_store.drafts import write_text

WINDOWS = [f"{date(2020, 1, 6) + timedelta(weeks=index)}" for index in range(240)]
RAW = ("bids", "jobs", "profiles", "outcomes")
FEATURES = ("job_texts", "bid_texts", "profile", "temporal", "history")


def seconds(work: Callable[[], object]) -> float:
    """Processor time of the best of three: what other programs do on the machine does not count."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(3))


def filled_store(folder: Path, windows: list[str]) -> VersionStore:
    """Raw, features (history looks back 14 windows), datasets over 26 windows and models: 11 versions of each window."""
    store = VersionStore(str(folder))
    made: dict[tuple[str, str], Manifest] = {}

    def make(asset: str, window: str, uppers: tuple[str, ...], look_back: int) -> None:
        seen = windows[: windows.index(window) + 1][-look_back:]
        inputs = tuple(made[upper, each].ref for upper in uppers for each in seen)
        made[asset, window] = write_text(store, asset + window, window, asset=asset, inputs=inputs).manifest

    with patch.object(os, "fsync", lambda handle: None):
        for window in windows:
            for asset in RAW:
                make(asset, window, (), 1)
            for asset in FEATURES:
                make(asset, window, RAW, 14 if asset == "history" else 1)
            make("dataset", window, RAW + FEATURES, 26)
            make("model", window, ("dataset",), 1)
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=len(WINDOWS))
    parser.add_argument("--rows", type=int, default=500_000, help="texts that are hashed; eight times as many numbers")
    options = parser.parse_args()
    windows = WINDOWS[: options.windows]
    floats = pa.table({"floats": np.random.default_rng(0).normal(size=8 * options.rows)})
    texts = pa.table({"texts": [f"a proposal of some length, number {number:09d}" for number in range(options.rows)]})
    shown = Table("what", "value", title="The version store")
    with tempfile.TemporaryDirectory() as folder:
        store = filled_store(Path(folder), windows)
        head = store.head("model", windows[-1])
        assert head is not None
        work: dict[str, Callable[[], object]] = {
            f"heads of {len(windows)} windows": lambda: store.heads("profile", windows),
            "tree of a model over 26 windows x 9 assets": lambda: upstream(store, head).to_dict(),
            f"what learned from a window, among {11 * len(windows):,} versions": lambda: downstream(
                store, "bids", windows[len(windows) // 2]
            ),
            "writing what is there already": lambda: write_text(store, f"bids{windows[3]}", windows[3], asset="bids"),
        }
        for name, each in work.items():
            shown.add_row(name, f"{seconds(each) * 1000:.1f} ms")
    for name, table in (("floats", floats), ("texts", texts)):
        shown.add_row(f"hashing {name}", f"{table.nbytes / 1e6 / seconds(lambda table=table: table_hash(table)):,.0f} MB/s")
    Console().print(shown)


if __name__ == "__main__":
    main()
