"""Periodic tasks of `bid-assets up`, in threads, beside the processes that `supervisor.py` keeps running."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from bid_assets.cli.supervisor import MAX_FAILED_PROBES, LineHandler
from bid_assets.embedded_postgres.server import EmbeddedServer

STOP_TIMEOUT = 5.0
"""How long a task that is under way may take when everything stops."""


class PeriodicTasks:
    """Tasks that are repeated, each in a thread of its own: one that hangs holds up no other.

    One that fails is repeated too.
    """

    def __init__(self, report: LineHandler) -> None:
        self._report = report
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP_TIMEOUT)

    def every(self, seconds: float, name: str, task: Callable[[], None]) -> None:
        """Do `task` now and so many seconds after each time it has ended.

        What went wrong is reported once, until it changes.
        """
        thread = threading.Thread(target=self._repeat, args=(seconds, name, task), daemon=True, name=f"periodic task: {name}")
        self._threads.append(thread)
        thread.start()

    def _repeat(self, seconds: float, name: str, task: Callable[[], None]) -> None:
        problem = ""
        while not self._stop.is_set():
            try:
                task()
                new_problem = ""
            except Exception as error:
                new_problem = str(error).strip() or type(error).__name__
            if new_problem and new_problem != problem and not self._stop.is_set():
                self._report(name, f"failed as a periodic task; it is tried again: {new_problem}")
            problem = new_problem
            self._stop.wait(seconds)


def keep_postgres_running(server: EmbeddedServer, report: LineHandler) -> Callable[[], None]:
    """A task that starts the server where it is gone, and restarts it where it has not answered several times in a row."""
    failed_probes = 0

    def keep() -> None:
        nonlocal failed_probes
        server.ensure_running()
        failed_probes = 0 if server.is_responding() else failed_probes + 1
        if failed_probes >= MAX_FAILED_PROBES:
            report("PostgreSQL", f"has failed {failed_probes} health checks in a row; it is restarted")
            failed_probes = 0
            server.restart()

    return keep
