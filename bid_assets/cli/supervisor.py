"""A process supervisor: starts processes in order, passes on their output, restarts those that died or fail health checks.

Knows nothing of Dagster: which processes there are is in `cli/up.py`, their health checks are in `orchestration/liveness.py`.
Whatever ends a process ends its children with it. Linux signals a process when the supervisor dies, so that none outlives it;
one that ignored the signal is ended by the next supervisor (`terminate_leftovers`).
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_RESTART_DELAY = 30.0
STABLE_SECONDS = 60.0
"""Seconds after which a process counts as stable; its exits before are forgotten."""
MAX_FAILED_STARTS = 5
"""A process that exits so often and has never been healthy is given up: a person has to mend what keeps it from starting."""
READY_TIMEOUT, STOP_TIMEOUT = 60.0, 15.0

PROBE_INTERVAL, FIRST_PROBE_INTERVAL = 5.0, 1.0
"""Seconds between two health checks; until the first one has passed."""
PROBE_TIMEOUT = 15.0
MAX_FAILED_PROBES = 3
"""A process that fails so many health checks in a row is restarted."""
STARTUP_TIMEOUT = 180.0
"""Seconds that a process may take from its start to the first health check that passes."""

SUPERVISED_HOME = "BID_ASSETS_SUPERVISED_HOME"
"""Environment variable of all processes and their descendants: the home whose supervisor started them."""

_LOG_BYTES, _OLD_LOGS = 10_000_000, 3
_ANSI_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG

LineHandler = Callable[[str, str], None]
"""Takes the name of a process and a line."""


class ProcessFailedError(RuntimeError):
    """A process exits again and again; the message has its last lines of output."""


class Probe:
    """One health check in a thread of its own, so that one that hangs holds up no other."""

    def __init__(self, check: Callable[[], bool]) -> None:
        self._check = check
        self._result = False
        self.started_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True, name="probe")
        self._thread.start()

    @property
    def result(self) -> bool | None:
        """Whether the check has passed; None while it runs, at most `PROBE_TIMEOUT` seconds.

        One that takes longer has failed.
        """
        if not self._thread.is_alive():
            return self._result
        return False if time.monotonic() > self.started_at + PROBE_TIMEOUT else None

    def _run(self) -> None:
        try:
            self._result = self._check()
        except Exception as error:  # whatever it is: the check has failed
            logging.getLogger(__name__).debug("health check failed: %s", error)


@dataclass
class ManagedProcess:
    """A process to keep running."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] = lambda: True
    """Whether the processes after it may be started."""
    health_check: Callable[[], bool] | None = None
    """True only of a working process. May raise; must end within seconds, or its thread is left behind."""
    startup_timeout: float | None = None
    """Seconds to the first health check that passes; None: `STARTUP_TIMEOUT`."""
    popen: subprocess.Popen[str] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    kill_at: float | None = None
    """When it has to have stopped; None where it need not stop."""
    exits: int = 0
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=15))
    probe: Probe | None = None
    next_probe_at: float = 0.0
    healthy: bool = False
    """Since it was last started."""
    failed_probes: int = 0
    """In a row."""
    has_been_healthy: bool = False
    """Whether a health check has ever passed; without one, whether it has ever been stable."""


class Supervisor:
    """Runs processes until `stop`. Use it from the main thread: a process gets SIGTERM when the thread that started it ends."""

    def __init__(
        self,
        processes: Sequence[ManagedProcess],
        environment: Mapping[str, str],
        folder: Path,
        on_output: LineHandler,
        report: LineHandler,
    ) -> None:
        self.processes = processes
        self._environment = dict(environment)
        self._folder = folder
        self._on_output = on_output
        self._report = report

    def start(self) -> None:
        """Start all processes, in order; the next one when the one before is ready, or is taking very long."""
        for process in self.processes:
            self._start(process)
            assert process.popen is not None
            deadline = time.monotonic() + READY_TIMEOUT
            while not process.ready() and process.popen.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)

    def restart_dead(self) -> None:
        """Restart processes that died, once their delay is over; stop unhealthy ones.

        Never waits. Raises `ProcessFailedError`.
        """
        now = time.monotonic()
        for process in self.processes:
            if process.popen is None:
                if now >= process.restart_at:
                    self._start(process)
            elif (code := process.popen.poll()) is not None:
                self._handle_exit(process, code, now)
            elif process.kill_at is None:
                self._check_health(process, now)
            elif now >= process.kill_at:
                _signal_group(process.popen, signal.SIGKILL)

    def stop(self) -> None:
        """Stop all processes with their children, the last one first; kill what does not stop."""
        for process in reversed(self.processes):
            popen, process.popen = process.popen, None
            if popen is None:
                continue
            if popen.poll() is None:
                _terminate(popen)
                try:
                    popen.wait(STOP_TIMEOUT)
                except subprocess.TimeoutExpired:
                    self._report(process.name, f"did not stop within {STOP_TIMEOUT:.0f} s and was killed")
            _signal_group(popen, signal.SIGKILL)

    def _start(self, process: ManagedProcess) -> None:
        process.started_at = time.monotonic()
        process.probe, process.next_probe_at, process.kill_at = None, 0.0, None
        process.healthy, process.failed_probes = False, 0
        process.popen = subprocess.Popen(
            process.command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor, which stops the processes in order
            preexec_fn=_end_with_parent,
        )
        threading.Thread(target=self._read_output, args=(process, process.popen), daemon=True).start()

    def _read_output(self, process: ManagedProcess, popen: subprocess.Popen[str]) -> None:
        assert popen.stdout is not None
        for line in popen.stdout:
            plain = _ANSI_COLORS.sub("", line.rstrip())
            process.last_lines.append(plain)
            self._on_output(process.name, plain)

    def _check_health(self, process: ManagedProcess, now: float) -> None:
        """Start the next health check, or take the result of the last one."""
        if process.health_check is None:
            return
        if process.probe is None:
            if now >= process.next_probe_at:
                process.probe = Probe(process.health_check)
            return
        result = process.probe.result
        if result is None:
            return
        process.probe, process.next_probe_at = (
            None,
            now + (PROBE_INTERVAL if process.healthy or result else FIRST_PROBE_INTERVAL),
        )
        if result:
            process.healthy, process.has_been_healthy, process.failed_probes = True, True, 0
        elif process.healthy or now > process.started_at + (process.startup_timeout or STARTUP_TIMEOUT):
            process.failed_probes += 1
        if process.failed_probes >= MAX_FAILED_PROBES:
            assert process.popen is not None
            self._report(process.name, f"has failed {process.failed_probes} health checks in a row; it is restarted")
            process.kill_at = now + STOP_TIMEOUT
            _terminate(process.popen)

    def _handle_exit(self, process: ManagedProcess, code: int, now: float) -> None:
        assert process.popen is not None
        _signal_group(process.popen, signal.SIGKILL)  # its children, which nobody would supervise
        process.popen = None
        stable = now - process.started_at > STABLE_SECONDS
        process.exits = 1 if stable else process.exits + 1
        process.has_been_healthy |= stable and process.health_check is None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if process.exits >= MAX_FAILED_STARTS and not process.has_been_healthy:
            last_output = "\n".join(f"  {line}" for line in process.last_lines)
            raise ProcessFailedError(f"{process.name} {how}, {process.exits} times in a row. Its last output:\n{last_output}")
        pause = min(2.0 ** (process.exits - 1), MAX_RESTART_DELAY)
        process.restart_at = now + pause
        self._report(process.name, f"{how}; it is started again in {pause:.0f} s")


def terminate_leftovers(home: Path) -> list[str]:
    """End the processes that an earlier supervisor of this home has left behind; their command lines."""
    import psutil

    leftovers = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(SUPERVISED_HOME) == str(home):
                leftovers.append((process, " ".join(process.cmdline())))
        except psutil.Error:
            continue
    for number in (signal.SIGTERM, signal.SIGCONT):
        for process, _ in leftovers:
            _quietly(process.send_signal, number)
    _, survivors = psutil.wait_procs([process for process, _ in leftovers], STOP_TIMEOUT)
    for process in survivors:
        _quietly(process.send_signal, signal.SIGKILL)
    psutil.wait_procs(survivors, STOP_TIMEOUT)
    return [line for _, line in leftovers]


def rotating_log(path: Path) -> logging.Logger:
    """A logger into a file of bounded size, with a few older ones beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger(f"bid_assets.cli.supervisor.{path}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [handler]
    return logger


def _terminate(process: subprocess.Popen[str]) -> None:
    """SIGTERM to a process, which stops its children itself; SIGCONT for those that were halted (SIGSTOP)."""
    process.terminate()
    _signal_group(process, signal.SIGCONT)


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """To the process and its children, which stay a group when the process itself is gone."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # nobody is left; PermissionError: macOS, where only zombies are
        return


def _quietly(send: Callable[[int], None], number: int) -> None:
    import psutil

    try:
        send(number)
    except psutil.Error:
        return


def _end_with_parent() -> None:
    """Signals as a terminal would give them, and SIGTERM when the parent dies."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)
