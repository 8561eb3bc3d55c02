"""Keeps a few processes running: starts them, passes on what they say, restarts what died or does not answer, stops them in order.

Knows nothing of Dagster; which parts there are is in `cli/up.py`, and what they are asked in `liveness.py`. Whatever ends a
part ends its children with it. Linux tells a part when the supervisor dies, however it dies, so that none outlives it; one that
did not heed that is ended by the next supervisor (`end_leftovers`).
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

LONGEST_PAUSE = 30.0
STEADY = 60.0
"""Seconds after which a part counts as running well; its failures before are forgotten."""
TOO_MANY = 5
"""A part that dies so often and has never worked is given up: what cannot start at all is for a person to mend."""
START_PATIENCE, STOP_PATIENCE = 60.0, 15.0

PROBE_SECONDS, FIRST_PROBE_SECONDS = 5.0, 1.0
"""Pause between an answer of a part and the next question; while it has not answered yet."""
PROBE_DEADLINE = 15.0
UNANSWERED_LIMIT = 3
"""A part that leaves so many questions in a row without an answer is restarted."""
FIRST_ANSWER_PATIENCE = 180.0
"""Seconds that a part which was just started may take to answer for the first time."""

SUPERVISED_HOME = "BID_ASSETS_SUPERVISED_HOME"
"""Environment variable of all parts and their descendants: the home whose supervisor started them."""

_LOG_BYTES, _OLD_LOGS = 10_000_000, 3
_ANSI_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG

Say = Callable[[str, str], None]
"""Takes the name of a part and a line."""


class ProcessFailedError(RuntimeError):
    """A part dies again and again; the message has the last lines that it said."""


class Probe:
    """One question in a thread of its own, so that who does not answer holds up nobody else."""

    def __init__(self, question: Callable[[], bool]) -> None:
        self._question = question
        self._answer = False
        self.asked_at = time.monotonic()
        self._thread = threading.Thread(target=self._ask, daemon=True, name="probe")
        self._thread.start()

    @property
    def answer(self) -> bool | None:
        """Whether the answer was right; None while it may still come. None within `PROBE_DEADLINE` is a wrong one."""
        if not self._thread.is_alive():
            return self._answer
        return False if time.monotonic() > self.asked_at + PROBE_DEADLINE else None

    def _ask(self) -> None:
        try:
            self._answer = self._question()
        except Exception as error:  # whatever it is: the part has not answered
            logging.getLogger(__name__).debug("no answer: %s", error)


@dataclass
class Part:
    """A process to keep running."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] = lambda: True
    """Whether the parts after it may be started."""
    answers: Callable[[], bool] | None = None
    """A question that only a working part answers. May raise; must end within seconds, or its thread is left behind."""
    patience: float | None = None
    """Seconds to the first answer; None: `FIRST_ANSWER_PATIENCE`."""
    process: subprocess.Popen[str] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    kill_at: float | None = None
    """When it has to have stopped; None where it need not stop."""
    deaths: int = 0
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=15))
    probe: Probe | None = None
    probe_at: float = 0.0
    answered: bool = False
    """Since it was last started."""
    unanswered: int = 0
    """Questions in a row."""
    has_worked: bool = False
    """Whether it has ever answered; one that cannot be asked, whether it has ever run well."""


class Supervisor:
    """Runs parts until it is told to stop. Use it from one thread, the main one: a part is told when the thread ends."""

    def __init__(self, parts: Sequence[Part], environment: Mapping[str, str], folder: Path, heard: Say, report: Say) -> None:
        self.parts = parts
        self._environment = dict(environment)
        self._folder = folder
        self._heard = heard
        self._report = report

    def start(self) -> None:
        """Start all parts, in order; the next one when the one before is ready, or is taking very long."""
        for part in self.parts:
            self._start(part)
            assert part.process is not None
            patience = time.monotonic() + START_PATIENCE
            while not part.ready() and part.process.poll() is None and time.monotonic() < patience:
                time.sleep(0.1)

    def look_after(self) -> None:
        """Start again what has died and has paused long enough; stop what does not answer. Never waits. Raises `ProcessFailedError`."""
        now = time.monotonic()
        for part in self.parts:
            if part.process is None:
                if now >= part.start_again_at:
                    self._start(part)
            elif (code := part.process.poll()) is not None:
                self._died(part, code, now)
            elif part.kill_at is None:
                self._ask(part, now)
            elif now >= part.kill_at:
                _signal_group(part.process, signal.SIGKILL)

    def stop(self) -> None:
        """Stop all parts with their children, the last one first; kill what does not stop."""
        for part in reversed(self.parts):
            process, part.process = part.process, None
            if process is None:
                continue
            if process.poll() is None:
                _terminate(process)
                try:
                    process.wait(STOP_PATIENCE)
                except subprocess.TimeoutExpired:
                    self._report(part.name, f"did not stop within {STOP_PATIENCE:.0f} s and was killed")
            _signal_group(process, signal.SIGKILL)

    def _start(self, part: Part) -> None:
        part.started_at = time.monotonic()
        part.probe, part.probe_at, part.kill_at = None, 0.0, None
        part.answered, part.unanswered = False, 0
        part.process = subprocess.Popen(
            part.command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor, which stops the parts in order
            preexec_fn=_end_with_parent,
        )
        threading.Thread(target=self._listen, args=(part, part.process), daemon=True).start()

    def _listen(self, part: Part, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            plain = _ANSI_COLORS.sub("", line.rstrip())
            part.last_lines.append(plain)
            self._heard(part.name, plain)

    def _ask(self, part: Part, now: float) -> None:
        """Put the next question to a part, or see what came of the last one."""
        if part.answers is None:
            return
        if part.probe is None:
            if now >= part.probe_at:
                part.probe = Probe(part.answers)
            return
        answer = part.probe.answer
        if answer is None:
            return
        part.probe, part.probe_at = None, now + (PROBE_SECONDS if part.answered or answer else FIRST_PROBE_SECONDS)
        if answer:
            part.answered, part.has_worked, part.unanswered = True, True, 0
        elif part.answered or now > part.started_at + (part.patience or FIRST_ANSWER_PATIENCE):
            part.unanswered += 1
        if part.unanswered >= UNANSWERED_LIMIT:
            assert part.process is not None
            self._report(part.name, f"has left {part.unanswered} questions in a row unanswered; it is restarted")
            part.kill_at = now + STOP_PATIENCE
            _terminate(part.process)

    def _died(self, part: Part, code: int, now: float) -> None:
        assert part.process is not None
        _signal_group(part.process, signal.SIGKILL)  # its children: nobody would look after them
        part.process = None
        steady = now - part.started_at > STEADY
        part.deaths = 1 if steady else part.deaths + 1
        part.has_worked |= steady and part.answers is None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if part.deaths >= TOO_MANY and not part.has_worked:
            said = "\n".join(f"  {line}" for line in part.last_lines)
            raise ProcessFailedError(f"{part.name} {how}, {part.deaths} times in a row. It said last:\n{said}")
        pause = min(2.0 ** (part.deaths - 1), LONGEST_PAUSE)
        part.start_again_at = now + pause
        self._report(part.name, f"{how}; it is started again in {pause:.0f} s")


def end_leftovers(home: Path) -> list[str]:
    """End the processes that an earlier supervisor of this home has left behind; their command lines."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(SUPERVISED_HOME) == str(home):
                found.append((process, " ".join(process.cmdline())))
        except psutil.Error:
            continue
    for number in (signal.SIGTERM, signal.SIGCONT):
        for process, _ in found:
            _quietly(process.send_signal, number)
    _, deaf = psutil.wait_procs([process for process, _ in found], STOP_PATIENCE)
    for process in deaf:
        _quietly(process.send_signal, signal.SIGKILL)
    psutil.wait_procs(deaf, STOP_PATIENCE)
    return [line for _, line in found]


def rotating_log(path: Path) -> logging.Logger:
    """A logger into a file of bounded size, with a few older ones beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    made = logging.getLogger(f"bid_assets.cli.supervisor.{path}")
    made.setLevel(logging.INFO)
    made.propagate = False
    made.handlers = [handler]
    return made


def _terminate(process: subprocess.Popen[str]) -> None:
    """Ask a part to stop; it stops its children itself. Those that were halted (SIGSTOP) would not hear it."""
    process.terminate()
    _signal_group(process, signal.SIGCONT)


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """To the part and its children, which stay a group when the part itself is gone."""
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
