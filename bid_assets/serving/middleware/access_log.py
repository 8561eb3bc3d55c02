"""The access log: JSON lines, one for each request and each record of Python's logging, written by a thread off the event loop.

No line has headers, bodies or query strings in it, and an API key that got into a path or a message is redacted. Lines wait
for at most `FLUSH_SECONDS`; that much a killed process loses. If nobody reads the stream (a full pipe), requests go on, and
lines beyond `MAX_QUEUED` are dropped and counted in the next one.
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
MAX_QUEUED = 50_000

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that is being handled, for every line that is logged meanwhile."""

_KEY = re.compile(rb"(ba_[0-9a-fA-F]{8}_)[0-9a-fA-F]{16,}")
_MAX_TEXT = 2000  # characters of a message or path
_LINES_PER_WRITE = 1000  # lines in one write


@dataclass(slots=True)
class RequestLogEntry:
    """What the access log says of one request."""

    received_at: float
    """Seconds since 1970."""
    request_id: str
    method: str
    path: str
    status: int
    seconds: float
    key: str | None
    """The name of the API key, never the key."""
    model: str | None
    """The version of the model that predicted."""
    client: str | None
    """The caller's address."""


class JsonLog:
    """Queues log entries and writes them to a stream as JSON lines. Threads may share it."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        """`stream`: None is stderr."""
        self._stream = sys.stderr.buffer if stream is None else stream
        self._queue: deque[RequestLogEntry | dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="json_log", daemon=True)
        self._thread.start()

    def log_request(self, entry: RequestLogEntry) -> None:
        """Log a request."""
        self._add(entry)

    def log_record(self, record: logging.LogRecord) -> None:
        """Log a record of Python's own logging."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage()[:_MAX_TEXT],
        }
        if (request_id := REQUEST_ID.get()) is not None:
            line["request_id"] = request_id
        if record.exc_info and record.exc_info[1] is not None:
            line |= _exception_fields(record.exc_info[1])
        self._add(line)

    def install(self, level: int = logging.INFO) -> None:
        """Make this the only handler of Python's logging in this process, for uvicorn's records too."""
        root = logging.getLogger()
        root.handlers[:] = [_Handler(self)]
        root.setLevel(level)
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)  # that of the root holds
            logger.propagate = name != "uvicorn.access"  # requests are logged here

    def close(self) -> None:
        """Write what is queued; lines that come later are written at once."""
        self._closing.set()
        self._thread.join(2)
        self._flush()

    def _add(self, line: RequestLogEntry | dict[str, Any]) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self._dropped += 1
            return
        self._queue.append(line)
        if self._closing.is_set():
            self._flush()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self._flush()

    def _flush(self) -> None:
        if not self._lock.acquire(timeout=1):
            return  # another thread is stuck in writing: nobody reads
        try:
            while self._queue:
                lines = [_bytes(self._queue.popleft()) for _ in range(min(len(self._queue), _LINES_PER_WRITE))]
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    lines.append(_bytes({"time": datetime.now(UTC), "level": "warning", "event": "log", "dropped": dropped}))
                self._stream.write(_KEY.sub(rb"\1...", b"".join(lines)))
                self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads any more, or the stream is closed: there is nowhere to say so
        finally:
            self._lock.release()


class _Handler(logging.Handler):
    def __init__(self, log: JsonLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.log_record(record)
        except Exception:
            self.handleError(record)


def _bytes(line: RequestLogEntry | dict[str, Any]) -> bytes:
    if isinstance(line, RequestLogEntry):
        line = {
            "time": _utc(line.received_at),
            "level": "info",
            "event": "request",
            "request_id": line.request_id,
            "method": line.method,
            "path": line.path[:_MAX_TEXT],
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


def _exception_fields(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "error_message": str(error)[:_MAX_TEXT],
        "traceback": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
