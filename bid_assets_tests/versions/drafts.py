"""Versions of a small text asset, for tests and for the processes that tests start and kill."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bid_assets.versions.manifest import Draft, InputRef
from bid_assets.versions.store import VersionStore, Written

ASSET, WINDOW = "notes", "2026-01-05"


def write_text(store: VersionStore, text: str, window: str = WINDOW, **draft: Any) -> Written:
    """Write `text` as a version of `notes`."""
    content_hash = hashlib.sha256(text.encode()).hexdigest()
    return store.write(
        Draft(draft.pop("asset", ASSET), window, "txt", content_hash, **draft), lambda path: _write(path, text)
    )


def head_text(store: VersionStore, window: str = WINDOW) -> str | None:
    head = store.head(ASSET, window)
    return None if head is None else store.fetch(head).read_text()


def ref(asset: str, content_hash: str, version: str = "v", window: str = WINDOW) -> InputRef:
    return InputRef(asset, window, version, content_hash)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _die_at(stage: str) -> None:
    """Make the Nth system call of a kind that a write uses kill this process, e.g. `fsync:2` or `link:1`."""
    name, _, count = stage.partition(":")
    left = int(count)

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    if name == "rename":
        Path.replace = deadly(Path.replace)  # type: ignore[method-assign]
    else:
        setattr(os, name, deadly(getattr(os, name)))


if __name__ == "__main__":
    _, url, what, argument = sys.argv
    if what == "die":
        _die_at(argument)
        write_text(VersionStore(url), "new")
    else:
        for number in range(100):
            write_text(VersionStore(url), f"{what} {number}")
