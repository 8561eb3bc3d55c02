"""Half a year of a living market under `bid-assets up`, disturbed all the time; says how often each disturbance was and
what is left undone.

    python -m bid_assets_tests.benchmarks.soak [--weeks 26] [--days-a-minute 7]

With the defaults it takes half an hour. The short form of it is a test: test_soak.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bid_assets.features.embeddings.model_files import static_model_folder
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.loops import Loop, loop_in
from bid_assets_tests.soaking import Disturbance, nothing_left_undone, soak


def main() -> None:
    """Soak, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=26)
    parser.add_argument("--days-a-minute", type=float, default=7)
    parser.add_argument("--disturbances", nargs="*", default=[each.name for each in Disturbance])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        encoder = static_model_folder(CHECKOUT / ".bid_assets" / "tests")
        with loop_in(folder, encoder, weeks_to_play=options.weeks, weeks=10, first_run=False) as loop:
            loop.up()
            disturbances = [Disturbance[each] for each in options.disturbances]
            Console().print(measure(loop, options.weeks, options.days_a_minute, disturbances))


def measure(loop: Loop, weeks: int, days_a_minute: float, disturbances: Sequence[Disturbance]) -> Table:
    """Wait for the first model, play and disturb, and wait until nothing is left undone; fails where something is."""
    begin = time.monotonic()
    nothing_left_undone(loop)
    first_model = time.monotonic() - begin
    counts = soak(loop, weeks=weeks, days_a_minute=days_a_minute, disturbances=disturbances)
    played = time.monotonic()
    nothing_left_undone(loop, 900)
    return report(first_model, time.monotonic() - played, counts, len(loop.store.versions("trained_model")))


def report(first_model: float, resolve_maturity: float, counts: Counter[Disturbance], models: int) -> Table:
    """The table."""
    table = Table("what", "value", title="Soak: nothing was left undone", title_justify="left")
    table.add_row("first model active after", f"{first_model:.0f} s")
    for disturbance, count in counts.items():
        table.add_row(disturbance.name.lower().replace("_", " "), str(count))
    table.add_row("models trained", str(models))
    table.add_row("all learned after the end", f"{resolve_maturity:.0f} s")
    return table


if __name__ == "__main__":
    main()
