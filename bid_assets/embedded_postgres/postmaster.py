"""A PostgreSQL server process seen from outside: what it notes and logs in its data folder, and how it is ended.

How a server is made and started is in `server.py`.
"""

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
"""In the data folder: what the server and its processes say."""
LOG_BYTES = 10_000_000
"""A log that has become larger is put aside at the next start, in place of the one before."""


def put_large_log_aside(data: Path) -> None:
    """Keep the log from growing without bound; of a server that does not run."""
    log = data / LOG
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(data / f"{LOG}.1")


def log_tail(data: Path) -> str:
    """The last lines of the log; empty where there is none."""
    try:
        return "\n".join((data / LOG).read_text(errors="replace").splitlines()[-10:])
    except OSError:
        return ""


def notes(data: Path, port: int) -> list[str]:
    """What the living server over `data` notes about itself (at last: its state). The notes of a dead one are cleared away."""
    pid_file = data / "postmaster.pid"
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return []
    if lines and not _serves(int(lines[0]), data):  # PostgreSQL would take whoever has this number for a server
        pid_file.unlink(missing_ok=True)
        if len(lines) > 4:
            Path(lines[4], f".s.PGSQL.{port}.lock").unlink(missing_ok=True)
        return []
    return lines


def stop(data: Path, seconds: float = STOP_SECONDS) -> None:
    """End the server over `data`, if there is one: in order, also where it was halted (SIGSTOP); else as `kill` does."""
    family = _family(data)
    if not family:
        return
    import psutil

    with suppress(psutil.NoSuchProcess):
        family[0].send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
    _resume(family)
    if not _gone(family[0].pid, data, seconds):
        kill(data)


def kill(data: Path) -> None:
    """End the server over `data` and all its processes at once. What was committed is there after the next start."""
    import psutil

    family = _family(data)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if family:
        psutil.wait_procs(family[1:], STOP_SECONDS)
        _gone(family[0].pid, data, STOP_SECONDS)


def _family(data: Path) -> list[psutil.Process]:
    """The server over `data` and its processes; none where none runs."""
    import psutil

    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        if not _serves(pid, data):
            return []
        server = psutil.Process(pid)
        return [server, *server.children(recursive=True)]
    except (FileNotFoundError, IndexError, psutil.NoSuchProcess):
        return []


def _resume(family: list[psutil.Process]) -> None:
    import psutil

    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _gone(pid: int, data: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _serves(pid, data):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _serves(pid: int, data: Path) -> bool:
    """Whether this process is alive and the server over `data`. After the machine's restart its number may be anyone's."""
    import psutil

    try:
        command = psutil.Process(pid).cmdline()
        if not command or Path(command[0]).name != "postgres":
            return False
        folder = command[command.index("-D") + 1] if "-D" in command[:-1] else ""
        return not Path(folder).is_absolute() or Path(folder).samefile(data)  # relative: started by hand; believe it
    except (psutil.Error, FileNotFoundError):
        return False
