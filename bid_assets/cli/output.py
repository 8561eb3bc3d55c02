"""The terminal: one console for people, JSON for scripts, and bars for long work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bid_assets.common.progress import on_progress

WIDE = 140

console = Console(width=None if sys.stdout.isatty() else WIDE)
stderr = Console(stderr=True)
"""For bars and remarks, so that stdout carries nothing but the answer."""


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show a bar for each stage that reports progress while the block runs."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=False) as bars:
        stages: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in stages or (done < total and bars.tasks[stages[stage]].finished):
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        with on_progress(show):
            yield bars
