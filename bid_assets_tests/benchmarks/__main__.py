"""`make bench`: every benchmark of this folder, one after the other. They print figures and assert nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"\n== {path.stem} ==", flush=True)
        subprocess.run([sys.executable, "-m", f"bid_assets_tests.benchmarks.{path.stem}"], check=True)


if __name__ == "__main__":
    main()
