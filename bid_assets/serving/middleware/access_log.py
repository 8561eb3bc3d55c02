"""The access log: JSON lines, one for each request and each record of Python's logging, written by a thread off the event loop.

No line has headers, bodies or query strings in it, and an API key that got into a path or a message is redacted: in the
finished line, whichever field it stands in. If nobody reads the stream (a full pipe), requests go on, and lines beyond
`MAX_QUEUED` are dropped and counted in the next one.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import IO, Any

import orjson

MAX_QUEUED = 50_000
CLOSE_SECONDS = 2.0
"""How long the log's end waits for a stream that nobody reads."""

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that is being handled, for every line that is logged meanwhile."""

_KEY = re.compile(rb"(ba_[0-9a-fA-F]{8}_)[0-9a-fA-F]{16,}")
_MAX_TEXT = 2000  # characters of a message or path

Line = dict[str, Any]


class JsonLog:
    """Queues what is logged and writes it to a stream as JSON lines. Threads may share it."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        """`stream`: None is stderr."""
        self._queue: SimpleQueue[Line] = SimpleQueue()
        self._writer = _LineWriter(self._queue, sys.stderr.buffer if stream is None else stream)
        self._handler = _LineHandler(self._queue)
        self._writer.start()

    def log_request(
        self,
        received_at: float,
        request_id: str,
        method: str,
        path: str,
        status: int,
        seconds: float,
        key: str | None,
        model: str | None,
        client: str | None,
    ) -> None:
        """Log a request.

        `received_at`: seconds since 1970; `key`: the name of the API key, never the key; `model`: the version that
        predicted; `client`: the caller's address.
        """
        line = {"time": received_at, "level": "info", "event": "request", "request_id": request_id, "method": method}
        line |= {"path": path[:_MAX_TEXT], "status": status, "ms": round(seconds * 1000, 3)}
        self._handler.enqueue(line | {"key": key, "model": model, "client": client})

    def install(self) -> None:
        """Make this the only handler of Python's logging in this process, for uvicorn's records too."""
        root = logging.getLogger()
        root.handlers[:] = [self._handler]
        root.setLevel(logging.INFO)
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)  # that of the root holds
            logger.propagate = name != "uvicorn.access"  # requests are logged here

    def close(self) -> None:
        """Write what is queued; lines that come later are written at once, or never where the stream is stuck."""
        if self._handler.writer is not None:
            return
        stop = threading.Thread(target=self._writer.stop, daemon=True)
        stop.start()
        stop.join(CLOSE_SECONDS)
        if not stop.is_alive():
            self._handler.writer = self._writer
            while not self._queue.empty():  # what came meanwhile
                self._writer.handle(self._queue.get())


class _LineHandler(QueueHandler):
    """Queues lines as long as there is room."""

    writer: _LineWriter | None = None
    """What writes the lines once nobody empties the queue any more."""
    _dropped = 0

    def __init__(self, queue: SimpleQueue[Line]) -> None:
        super().__init__(queue)
        self._lines = queue

    def prepare(self, record: logging.LogRecord) -> Line:
        line = {"time": record.created, "level": record.levelname.lower(), "event": "log", "logger": record.name}
        line["message"] = record.getMessage()[:_MAX_TEXT]
        if (request_id := REQUEST_ID.get()) is not None:
            line["request_id"] = request_id
        if record.exc_info and record.exc_info[1] is not None:
            line |= _exception_fields(record.exc_info[1])
        return line

    def enqueue(self, line: Any) -> None:
        if self.writer is not None:
            self.writer.handle(line)
        elif self._lines.qsize() >= MAX_QUEUED:
            self._dropped += 1
        else:
            self._lines.put(line)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._lines.put({"time": line["time"], "level": "warning", "event": "log", "dropped": dropped})


class _LineWriter(QueueListener):
    """Writes lines from a thread of its own."""

    def __init__(self, queue: SimpleQueue[Line], stream: IO[bytes]) -> None:
        super().__init__(queue)
        self._stream = stream

    def handle(self, line: Any) -> None:
        line["time"] = datetime.fromtimestamp(line["time"], UTC)
        try:
            content = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
        except TypeError:  # half of a surrogate pair in a text
            content = orjson.dumps({name: ascii(value) for name, value in line.items()}, option=orjson.OPT_APPEND_NEWLINE)
        with suppress(OSError, ValueError):  # nobody reads any more, or the stream is closed: there is nowhere to say so
            self._stream.write(_KEY.sub(rb"\1...", content))
            self._stream.flush()


def _exception_fields(error: BaseException) -> Line:
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "error_message": str(error)[:_MAX_TEXT],
        "traceback": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
