"""HTTP connections of the service: their deadlines before and after a request, and their number.

uvicorn waits for ever for the headers of a request, for a caller who does not read the response, and for the rest of a body
after the response. While a request is being handled, the deadline of the request middleware counts (`request_guard.py`).
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

HEADER_SECONDS = 5.0
"""From the first byte of a request, or from the beginning of a connection, to the end of the headers."""
UNREAD_SECONDS = 30.0
"""For a caller to read a response: 5,000 predictions at a megabit a second."""
CHECK_SECONDS = 1.0
MAX_CONNECTIONS = 1000
"""Of one worker; fewer where the limit of open files leaves no more."""
RESERVED_FILES = 128
"""Open files that are left to libraries, caches, databases and logs."""


def connection_limit() -> int:
    """The maximal number of connections of a worker, below the limit of its open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(16, files - RESERVED_FILES))


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol with deadlines and a maximal number of connections, beyond which the longest idle one is closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limit = connection_limit()
        self._idle_since: float | None = None
        self._deadline: float | None = None
        self._request_started = False
        self._check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_request()
        self._check = self.loop.call_later(CHECK_SECONDS, self._close_if_late)
        if len(self.connections) > self._limit:
            self._evict_longest_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The first byte of a request begins the time for its headers; later ones do not prolong it."""
        if self._idle_since is not None and not self._request_started:
            self._request_started, self._deadline = True, time.monotonic() + HEADER_SECONDS
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """From here on the deadline of the request middleware counts."""
        self._idle_since = self._deadline = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is there already."""
        if not self.pipeline:
            self._wait_for_request()
        super().on_response_complete()

    def _wait_for_request(self) -> None:
        self._idle_since = time.monotonic()
        self._deadline = self._idle_since + HEADER_SECONDS
        self._request_started = False

    def _close_if_late(self) -> None:
        now = time.monotonic()
        if self._deadline is None and self.transport.is_closing():  # half of a response is out, and nobody reads the rest
            self._deadline = now + UNREAD_SECONDS
        unread = self.transport.get_write_buffer_size() > 0
        grace = UNREAD_SECONDS - HEADER_SECONDS if unread and self._idle_since is not None else 0.0
        if self._deadline is not None and now > self._deadline + grace:
            self.transport.abort()
        else:
            self._check = self.loop.call_later(CHECK_SECONDS, self._close_if_late)

    def _evict_longest_idle(self) -> None:
        idle = [each for each in self.connections if isinstance(each, BoundedConnection) and each._idle_since is not None]
        longest_idle = min(idle, key=lambda each: each._idle_since or 0.0, default=self)
        log.warning("more than %d connections: the longest idle one is closed", self._limit)
        longest_idle.connections.discard(longest_idle)
        longest_idle.transport.abort()
