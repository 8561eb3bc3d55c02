"""Versions of a small text asset, for tests and for the processes that tests start and kill."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bid_assets.version_store.manifest import Draft, InputRef
from bid_assets.version_store.store import VersionStore, WriteResult

ASSET, WINDOW = "notes", "2026-01-05"

CALLS = ("mkdir", "fsync", "link", "unlink", "replace")
"""What a local write asks of the operating system to make its bytes visible and lasting."""

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def write_text(store: VersionStore, text: str, window: str = WINDOW, **draft: Any) -> WriteResult:
    """Write `text` as a version of `notes`."""
    said = {"asset": ASSET, "extension": "txt", "content_hash": hashlib.sha256(text.encode()).hexdigest(), **draft}
    return store.write(Draft(partition=window, **said), lambda path: _write(path, text))


def head_text(store: VersionStore, window: str = WINDOW, asset: str = ASSET) -> str | None:
    head = store.head(asset, window)
    return None if head is None else store.fetch(head).read_text()


def ref(asset: str, content_hash: str, version: str = "v", window: str = WINDOW) -> InputRef:
    return InputRef(asset, window, version, content_hash)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


@contextmanager
def watched(before: Callable[[str], None]) -> Iterator[None]:
    """Call `before` with the name of each of the `CALLS` that is about to be made."""

    def watch(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            before(name)
            return real(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, watch(name, getattr(os, name)))
        yield


def die_writing(url: str, number: int) -> None:
    """Write "new", but be killed just before the call of this number, or, for number 0, in the middle of the file."""
    left = number

    def before(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def half(path: Path) -> None:
        path.write_text("ne")
        os.kill(os.getpid(), signal.SIGKILL)

    store = VersionStore(url)
    if number == 0:
        store.write(Draft(ASSET, WINDOW, "txt", "half"), half)
    with watched(before):
        write_text(store, "new")


def write_many(url: str, who: str, count: int) -> None:
    """Write `count` versions, each with a text of its own."""
    for number in range(count):
        write_text(VersionStore(url), f"{who} {number}")


def in_a_process(function: Callable[..., None], *arguments: Any) -> Any:
    """Start `function` in a process of its own, which need not import everything first but has our environment."""
    process = PROCESSES.Process(target=_call, args=(dict(os.environ), function, arguments))
    process.start()
    return process


def _call(environment: dict[str, str], function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    function(*arguments)
