"""A running PostgreSQL server (postmaster) from outside: its pid file and log, and how it is stopped. Start is in
`server.py`."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

STOP_SECONDS = 30.0
"""How long a server may take to end its connections and write what is in memory, before it is killed."""


LOG = "server.log"
"""In the data directory: the log of the server and its processes."""
LOG_BYTES = 10_000_000
"""A larger log is rotated at the next start; one old log is kept."""


def rotate_large_log(data: Path) -> None:
    """Rotate a log that is larger than `LOG_BYTES`, of a server that does not run."""
    log = data / LOG
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(data / f"{LOG}.1")


def log_tail(data: Path) -> str:
    """The last lines of the log; empty where there is none."""
    try:
        return "\n".join((data / LOG).read_text(errors="replace").splitlines()[-10:])
    except OSError:
        return ""


def read_pid_file(data: Path, port: int) -> list[str]:
    """The lines of the live server's pid file (the last one is its status). The pid file of a dead server is removed."""
    pid_file = data / "postmaster.pid"
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return []
    if lines and not _is_postmaster_of(int(lines[0]), data):  # PostgreSQL would take whoever has this number for a server
        pid_file.unlink(missing_ok=True)
        if len(lines) > 4:
            Path(lines[4], f".s.PGSQL.{port}.lock").unlink(missing_ok=True)
        return []
    return lines


def stop(data: Path, seconds: float = STOP_SECONDS) -> None:
    """End the server over `data`, if there is one: in order, also where it was halted (SIGSTOP); else as `kill` does."""
    processes = _processes(data)
    if not processes:
        return
    import psutil

    with suppress(psutil.NoSuchProcess):
        processes[0].send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
    _resume(processes)
    if not _wait_until_stopped(processes[0].pid, data, seconds):
        kill(data)


def kill(data: Path) -> None:
    """End the server over `data` and all its processes at once. What was committed is there after the next start."""
    import psutil

    processes = _processes(data)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if processes:
        psutil.wait_procs(processes[1:], STOP_SECONDS)
        _wait_until_stopped(processes[0].pid, data, STOP_SECONDS)


def _processes(data: Path) -> list[psutil.Process]:
    """The server over `data` and its processes; none where none runs."""
    import psutil

    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        if not _is_postmaster_of(pid, data):
            return []
        server = psutil.Process(pid)
        return [server, *server.children(recursive=True)]
    except (FileNotFoundError, IndexError, psutil.NoSuchProcess):
        return []


def _resume(processes: list[psutil.Process]) -> None:
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _wait_until_stopped(pid: int, data: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _is_postmaster_of(pid, data):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_postmaster_of(pid: int, data: Path) -> bool:
    """Whether this process is alive and the server over `data`. After a restart of the machine the pid may be any process's."""
    import psutil

    try:
        command = psutil.Process(pid).cmdline()
        if not command or Path(command[0]).name != "postgres":
            return False
        folder = command[command.index("-D") + 1] if "-D" in command[:-1] else ""
        return not Path(folder).is_absolute() or Path(folder).samefile(data)  # relative: started by hand; believe it
    except (psutil.Error, FileNotFoundError):
        return False
