"""Folders in the home for files that are being computed: each goes with its process, also with one that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bid_assets.common.private_state import ensure_private_home


@contextmanager
def work_folder(home: Path, name: str) -> Iterator[Path]:
    """A new folder `<home>/<name>-...`, removed at the end. Those that killed processes have left are removed before.

    Not in the system's folder for temporary files, which may be memory.
    """
    with ExitStack() as stack:
        with _lock(ensure_private_home(home), fcntl.LOCK_EX):  # a folder that is not locked yet would look left
            for folder in home.glob(f"{name}-*"):
                with suppress(BlockingIOError, FileNotFoundError), _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(folder)
            folder = Path(stack.enter_context(TemporaryDirectory(dir=home, prefix=f"{name}-")))
            stack.enter_context(_lock(folder, fcntl.LOCK_EX))
        yield folder


@contextmanager
def _lock(folder: Path, operation: int) -> Iterator[None]:
    """The folder's lock, which ends with the process that holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
