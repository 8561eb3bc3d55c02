"""Progress reports of long work through callbacks of the process: the command line draws a bar, tests do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class ProgressCallback(Protocol):
    """A function that is called with the progress of some work."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` units of `stage` are finished."""


_callbacks: list[ProgressCallback] = []


def report_progress(stage: str, done: int, total: int) -> None:
    """Call the process's callbacks."""
    for callback in _callbacks:
        callback(stage, done, total)


@contextmanager
def on_progress(callback: ProgressCallback) -> Iterator[None]:
    """Register `callback` for as long as the block runs."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)
