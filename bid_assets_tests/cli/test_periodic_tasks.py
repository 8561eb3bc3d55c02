from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bid_assets.cli.periodic_tasks import PeriodicTasks, keep_postgres_running
from bid_assets.cli.supervisor import MAX_FAILED_PROBES
from bid_assets.embedded_postgres import server
from bid_assets.embedded_postgres.server import EmbeddedServer

Reports = list[tuple[str, str]]


def until(done: threading.Event) -> None:
    assert done.wait(10)


def test_a_task_that_fails_is_repeated_and_reported_once_until_something_else_is_wrong() -> None:
    reports: Reports = []
    problems = iter(["no disk", "no disk", "", "no disk", "no memory"])
    done = threading.Event()

    def task() -> None:
        problem = next(problems, None)
        if problem is None:
            done.set()
        elif problem:
            raise OSError(problem)

    with PeriodicTasks(lambda *report: reports.append(report)) as tasks:
        tasks.every(0.01, "a task", task)
        until(done)
    assert [line.rpartition(": ")[2] for _, line in reports] == ["no disk", "no disk", "no memory"]


def test_a_task_that_hangs_holds_up_no_other() -> None:
    done, never = threading.Event(), threading.Event()
    with PeriodicTasks(lambda *_: None) as tasks:
        tasks.every(0.01, "hanging", lambda: never.wait(30) and None)
        tasks.every(0.01, "another", done.set)
        until(done)
        never.set()


@pytest.fixture
def postgres() -> Iterator[EmbeddedServer]:
    """A server of its own, in a folder that its user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    used = EmbeddedServer(folder / "postgres", durable=False)
    yield used
    used.release()
    shutil.rmtree(folder, ignore_errors=True)


def postmaster(server: EmbeddedServer) -> psutil.Process:
    return psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))


def test_a_server_that_is_gone_is_started_and_one_that_hangs_is_restarted(
    postgres: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "QUERY_TIMEOUT_SECONDS", 2)
    reports: Reports = []
    keep = keep_postgres_running(postgres, lambda *report: reports.append(report))
    gone = postmaster(postgres)
    gone.kill()
    gone.wait(10)
    keep()
    assert postgres.is_responding()
    hanging = postmaster(postgres)
    hanging.suspend()
    for _ in range(MAX_FAILED_PROBES):
        keep()
    assert reports == [("PostgreSQL", "has failed 3 health checks in a row; it is restarted")]
    assert postgres.is_responding()
    assert postmaster(postgres) != hanging
