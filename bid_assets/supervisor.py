"""Keeps a few processes running: starts them, passes on what they say, starts them again when they die, stops them in order.

Knows nothing of Dagster; which parts there are is in `commands/up.py`. Linux tells a part when the supervisor dies, however it
dies, so that none outlives it.
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
"""A part that dies so often without running well in between is given up."""
START_PATIENCE, STOP_PATIENCE = 60.0, 15.0

_LOG_BYTES, _OLD_LOGS = 10_000_000, 3
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG

Say = Callable[[str, str], None]
"""Takes the name of a part and a line."""


class PartGivenUp(RuntimeError):
    """A part dies again and again; the message has the last lines that it said."""


@dataclass
class Part:
    """A process to keep running."""

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] = lambda: True
    """Whether the parts after it may be started."""
    process: subprocess.Popen[str] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    deaths: int = 0
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=15))


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
        """Start again what has died and has paused long enough. Raises `PartGivenUp`."""
        now = time.monotonic()
        for part in self.parts:
            if part.process is not None and (code := part.process.poll()) is not None:
                self._died(part, code, now)
            elif part.process is None and now >= part.start_again_at:
                self._start(part)

    def stop(self) -> None:
        """Stop all parts, the last one first; kill what does not stop."""
        for part in reversed(self.parts):
            process, part.process = part.process, None
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                self._report(part.name, f"did not stop within {STOP_PATIENCE:.0f} s and was killed")

    def _start(self, part: Part) -> None:
        part.started_at = time.monotonic()
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
            plain = _COLOURS.sub("", line.rstrip())
            part.last_lines.append(plain)
            self._heard(part.name, plain)

    def _died(self, part: Part, code: int, now: float) -> None:
        part.process = None
        part.deaths = 1 if now - part.started_at > STEADY else part.deaths + 1
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if part.deaths >= TOO_MANY:
            said = "\n".join(f"  {line}" for line in part.last_lines)
            raise PartGivenUp(f"{part.name} {how}, {part.deaths} times in a row. It said last:\n{said}")
        pause = min(2.0 ** (part.deaths - 1), LONGEST_PAUSE)
        part.start_again_at = now + pause
        self._report(part.name, f"{how}; it is started again in {pause:.0f} s")


def rotating_log(path: Path) -> logging.Logger:
    """A logger into a file of bounded size, with a few older ones beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    made = logging.getLogger(f"bid_assets.supervisor.{path}")
    made.setLevel(logging.INFO)
    made.propagate = False
    made.handlers = [handler]
    return made


def _end_with_parent() -> None:
    """Signals as a terminal would give them, and SIGTERM when the parent dies."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)
