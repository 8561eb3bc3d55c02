"""What `bid-assets up` does again and again beside its parts, in threads: keep the embedded PostgreSQL running, fail orphaned runs.

The processes that it starts itself are looked after by `supervisor.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Self

import dagster as dg

from bid_assets.cli.supervisor import UNANSWERED_LIMIT, Say
from bid_assets.embedded_postgres.server import EmbeddedServer

LAST_TURN_SECONDS = 5.0
"""How long a task that is under way may take when everything stops."""
UNSTARTED_AFTER = timedelta(minutes=1)
"""How long the process of a run may take to say that it is there."""


class Upkeep:
    """Tasks that are repeated, each in a thread of its own: one that hangs holds up no other. One that fails is repeated too."""

    def __init__(self, report: Say) -> None:
        self._report = report
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(LAST_TURN_SECONDS)

    def every(self, seconds: float, name: str, task: Callable[[], None]) -> None:
        """Do `task` now and so many seconds after each time it has ended. What went wrong is reported once, until it changes."""
        thread = threading.Thread(target=self._repeat, args=(seconds, name, task), daemon=True, name=f"upkeep of {name}")
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
                self._report(name, f"cannot be looked after now; it is tried again: {new_problem}")
            problem = new_problem
            self._stop.wait(seconds)


def keep_postgres(server: EmbeddedServer, report: Say) -> Callable[[], None]:
    """A task that starts the server where it is gone, and restarts it where it has not answered several times in a row."""
    unanswered = 0

    def keep() -> None:
        nonlocal unanswered
        server.ensure_running()
        unanswered = 0 if server.answers() else unanswered + 1
        if unanswered >= UNANSWERED_LIMIT:
            report("PostgreSQL", f"has left {unanswered} questions in a row unanswered; it is restarted")
            unanswered = 0
            server.restart()

    return keep


def fail_orphaned_runs(instance: dg.DagsterInstance, report: Say, unstarted_after: timedelta = UNSTARTED_AFTER) -> None:
    """Mark runs as failed whose process is gone, or never came. Only for an instance that nobody shares."""
    from bid_assets.orchestration.orphaned_runs import fail_orphans, fail_unstarted

    for run_id in [*fail_orphans(instance), *fail_unstarted(instance, after=unstarted_after)]:
        report(f"run {run_id[:8]}", "has no process; it is marked as failed")
