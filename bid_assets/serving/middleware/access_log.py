"""Logs as JSON, one line for each request and for whatever else is told; written by a thread, off the event loop.

No line has headers, bodies or query strings in it, and an API key that got into a path or a message is blotted out. Lines wait
for at most `FLUSH_SECONDS`; that much a killed process loses. If nobody takes the lines (a full pipe), requests go on and lines
beyond `MOST_WAITING` are dropped, and counted in the next one.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import orjson

FLUSH_SECONDS = 0.2
MOST_WAITING = 50_000

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered, for every line that is told meanwhile."""

_KEY = re.compile(rb"(ba_[0-9a-fA-F]{8}_)[0-9a-fA-F]{16,}")
_LONGEST = 2000  # characters of a message or path
_AT_ONCE = 1000  # lines in one write


@dataclass(slots=True)
class Answered:
    """A request that was answered, as logs and figures see it."""

    at: float
    """When it came, in seconds since 1970."""
    request_id: str
    method: str
    path: str
    status: int
    seconds: float
    key: str | None
    """The name of the API key, never the key."""
    model: str | None
    """The version of the model that answered."""
    client: str | None
    """The caller's address."""


class JsonLog:
    """Takes what happens, and writes it to a stream, a line each. Threads may share it."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        """`stream`: where to; None: stderr."""
        self._stream = sys.stderr.buffer if stream is None else stream
        self._waiting: deque[Answered | dict[str, Any]] = deque()
        self._turn = threading.Lock()
        self._closing = threading.Event()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="json_log", daemon=True)
        self._thread.start()

    def request(self, answered: Answered) -> None:
        """Log a request."""
        self._add(answered)

    def tell(self, record: logging.LogRecord) -> None:
        """Log a record of Python's own logging."""
        line: dict[str, Any] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage()[:_LONGEST],
        }
        if (request := REQUEST_ID.get()) is not None:
            line["request_id"] = request
        if record.exc_info and record.exc_info[1] is not None:
            line |= _of_error(record.exc_info[1])
        self._add(line)

    def install(self, level: int = logging.INFO) -> None:
        """Take everything that Python's logging is told in this process, uvicorn's lines too."""
        root = logging.getLogger()
        root.handlers[:] = [_Handler(self)]
        root.setLevel(level)
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)  # that of the root holds
            logger.propagate = name != "uvicorn.access"  # the lines of requests are our own

    def close(self) -> None:
        """Write what is waiting; lines that come later are written at once."""
        self._closing.set()
        self._thread.join(2)
        self._flush()

    def _add(self, line: Answered | dict[str, Any]) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._dropped += 1
            return
        self._waiting.append(line)
        if self._closing.is_set():
            self._flush()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self._flush()

    def _flush(self) -> None:
        if not self._turn.acquire(timeout=1):
            return  # another thread is stuck in writing: nobody reads
        try:
            while self._waiting:
                lines = [_bytes(self._waiting.popleft()) for _ in range(min(len(self._waiting), _AT_ONCE))]
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    lines.append(_bytes({"time": datetime.now(UTC), "level": "warning", "event": "log", "dropped": dropped}))
                self._stream.write(_KEY.sub(rb"\1...", b"".join(lines)))
                self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads any more, or the stream is closed: there is nowhere to say so
        finally:
            self._turn.release()


class _Handler(logging.Handler):
    def __init__(self, log: JsonLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.tell(record)
        except Exception:
            self.handleError(record)


def _bytes(line: Answered | dict[str, Any]) -> bytes:
    if isinstance(line, Answered):
        line = {
            "time": _moment(line.at),
            "level": "info",
            "event": "request",
            "request_id": line.request_id,
            "method": line.method,
            "path": line.path[:_LONGEST],
            "status": line.status,
            "ms": round(line.seconds * 1000, 3),
            "key": line.key,
            "model": line.model,
            "client": line.client,
        }
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
    except TypeError:  # half of a surrogate pair in a text
        return orjson.dumps({name: ascii(value) for name, value in line.items()}, option=orjson.OPT_APPEND_NEWLINE)


def _of_error(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "error_message": str(error)[:_LONGEST],
        "traceback": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
