"""`make bench`: every `bench_*` of this folder, one after the other. They print metrics and assert nothing.

The others here are run by hand: they want a store (`ablation`), much time (`daily_year`), or other programs (`serving`,
`bench_models`).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"\n== {path.stem} ==", flush=True)
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", f"bid_assets_tests.benchmarks.{path.stem}"], check=True)
        print(f"({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
