"""A year of daily windows: whether the platform stays usable. Needs Chromium. Takes over three minutes, so `make bench`
leaves it out.

    python -m bid_assets_tests.benchmarks.daily_year --bids 40000

A market of 52 weeks in daily windows, looked back over 91 of them. Measured are the main job over the whole range, Dagster's
UI in a real browser, the ticks of the sensors with nothing new, and an outcome's way to a decision. The partitions begin in
2020, as by default: every asset has over two thousand.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
from playwright.sync_api import Page, expect
from rich.console import Console
from rich.table import Table

from bid_assets.common.windows import TimeRange
from bid_assets.features.embeddings.model_files import static_model_folder
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.liveness import code_is_loaded
from bid_assets_tests.benchmarks.bench_loop import PARTS, one_turn
from bid_assets_tests.browser.chromium import chromium, new_page
from bid_assets_tests.browser.pages import open_graph
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.loops import Loop, eventually, loop_in
from bid_assets_tests.platforms import call_json

WEEKS, LOOKBACK = 52, 91
TICKS = 5
SENSORS = ("new_outcomes_sensor", "reconciliation_sensor", "retraining_sensor")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def runs(loop: Loop, cutoffs: int) -> Iterator[tuple[str, float]]:
    """The main job over the whole range has just run: how long, from its own runs; and again, with nothing new."""
    window = loop.settings.cadence.window
    for run in reversed(loop.runs()):
        record = loop.instance.get_run_record_by_id(run.run_id)
        assert record is not None
        assert record.start_time is not None
        assert record.end_time is not None
        windows = len(loop.settings.cadence.keys(TimeRange(window(run.first).start, window(run.last).end)))
        yield f"{run.kind} run of {windows} window(s)", record.end_time - record.start_time
    yield "bid-assets run, nothing new", seconds(lambda: call_json("run"))
    if cutoffs > 1:
        took = seconds(lambda: call_json("run", "--cutoff-windows", str(cutoffs)))
        yield f"bid-assets run --cutoff-windows {cutoffs}, of which the newest is current", took


def ticks(loop: Loop) -> Iterator[tuple[str, float]]:
    """The mean duration of ticks with nothing new, by sensor: of what the sensor does, in this process, and of the
    whole tick."""
    repository = build_defs(loop.settings, loop.store).get_repository_def()

    def quiet(name: str) -> list[float] | None:
        state = state_of(loop, name)
        found = loop.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=100)
        took = [tick.end_timestamp - tick.timestamp for tick in found if tick.status.value == "SKIPPED" and tick.end_timestamp]
        return took[:TICKS] if len(took) > TICKS else None

    for name in SENSORS:
        sensor = repository.get_sensor_def(name)
        cursor = state_of(loop, name).instigator_data.cursor

        def evaluate(sensor: dg.SensorDefinition = sensor, cursor: str | None = cursor) -> None:
            with dg.build_sensor_context(loop.instance, cursor=cursor, repository_def=repository) as context:
                sensor.evaluate_tick(context)

        evaluate()  # the first one loads libraries
        yield f"{name} itself", min(seconds(evaluate) for _ in range(TICKS))
        durations = eventually(partial(quiet, name), 600)
        yield f"tick of {name}, nothing new", sum(durations) / len(durations)


def state_of(loop: Loop, name: str) -> Any:
    [state] = [state for state in loop.instance.all_instigator_state() if state.name == name]
    return state


def pages(loop: Loop) -> Iterator[tuple[str, float]]:
    """Until a page is drawn with all that it has to say, each in a browser that has seen nothing yet."""
    yield "asset graph, all groups expanded, first visit", visit(loop, open_graph)
    yield "asset graph, another visit", visit(loop, open_graph)
    yield "page of an asset with its windows", visit(loop, partial(windows_of, asset="bid_temporal_features"))
    yield "page of a sensor with its ticks", visit(loop, partial(ticks_of, sensor="retraining_sensor"))


def visit(loop: Loop, look: Callable[[Page], None]) -> float:
    with chromium() as browser, new_page(browser, f"http://127.0.0.1:{loop.port}") as page:
        page.set_default_timeout(120_000)
        expect.set_options(timeout=120_000)
        return seconds(partial(look, page))


def windows_of(page: Page, asset: str) -> None:
    page.goto(f"/assets/{asset}?view=partitions")
    expect(page.get_by_text(re.compile(r"Materialized \(3\d\d\)"))).to_be_visible()


def ticks_of(page: Page, sensor: str) -> None:
    page.goto(f"/locations/bid_assets/sensors/{sensor}")
    expect(page.get_by_role("row").filter(has_text="View logs").first).to_be_visible()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bids", type=int, default=40_000)
    parser.add_argument("--cutoffs", type=int, default=1, help="make datasets and models of so many windows too")
    options = parser.parse_args()
    table = Table("", "s", title=f"{WEEKS * 7} daily windows, {options.bids:,} bids, {LOOKBACK} looked back over")

    def measured(metrics: Iterator[tuple[str, float]]) -> None:
        for name, value in metrics:
            table.add_row(name, f"{value:.2f}")
            print(f"{name}: {value:.2f} s", flush=True)

    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)
    begin = time.perf_counter()
    with loop_in(
        folder,
        static_model_folder(CHECKOUT / ".bid_assets" / "tests"),
        weeks_to_play=1,
        weeks=WEEKS,
        bids=options.bids,
        CADENCE="daily",
        LOOKBACK_WINDOWS=LOOKBACK,
    ) as loop:
        measured(iter([("market made and bid-assets run, whole range", time.perf_counter() - begin)]))
        measured(runs(loop, options.cutoffs))
        loop.up()
        measured(
            iter([("bid-assets up answers", seconds(lambda: eventually(lambda: code_is_loaded(f"127.0.0.1:{loop.port}"), 90)))])
        )
        measured(pages(loop))
        measured(ticks(loop))
        turns = [one_turn(loop, hour) for hour in (1, 2)]
        measured(
            (f"an outcome's way: {name}", min(metrics)) for name, metrics in zip(PARTS, zip(*turns, strict=True), strict=True)
        )
    shutil.rmtree(folder, ignore_errors=True)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
