"""Request middleware: request ids, authentication, limits of rate, size and time, log and metrics, a response whatever happens.

A pure ASGI middleware, since every request passes it: some ten microseconds. Add it inside the app
(`app.add_middleware(RequestMiddleware, ...)`), so that it sees what a handler raises before Starlette's outermost layer does.
The token buckets are in `rate_limit`, the keys in `api_keys`.

Every rejection looks like the app's own errors: `{"error": {"code", "message", "request_id", ...}}`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bid_assets.serving.middleware.access_log import REQUEST_ID, JsonLog
from bid_assets.serving.middleware.api_keys import ApiKeyStore
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.serving.middleware.rate_limit import TokenBucketLimiter
from bid_assets.settings import Settings

log = logging.getLogger(__name__)

UNKNOWN_PATH = "other"
"""The label, in the metrics, of every path that the service does not have."""

_ids = Random()  # no secrets: the system's randomness costs a call that may give the turn to another thread
os.register_at_fork(after_in_child=_ids.seed)
_REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request, and of the requests of one key."""

    body_bytes: int
    seconds: float
    rate: float | None = None
    """Requests of one key in a second; None: no limit."""

    @classmethod
    def from_settings(cls, settings: Settings) -> RequestLimits:
        """The limits of these settings."""
        return cls(settings.serving_max_body_bytes, settings.serving_timeout_seconds, settings.serving_rate_limit)


class RequestMiddleware:
    """ASGI middleware that authenticates and limits requests, rejects those that must not reach the app, and records all."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        scopes: Mapping[str, str | None],
        key_store: ApiKeyStore,
        limits: RequestLimits,
        log: JsonLog,
        metrics: Metrics,
    ) -> None:
        """`scopes`: every path of the app, and the scope that it requires (None: no authentication).

        The app never sees another path: whatever its router might make of it (a line break at the end, say), no path is
        reached without its scope.
        """
        self._app, self._scopes, self._key_store, self._limits = app, dict(scopes), key_store, limits
        self._log, self._metrics = log, metrics
        self._limiter = None if limits.rate is None else TokenBucketLimiter(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; lifespan messages are passed on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request = _RequestState(scope, send)
        try:
            rejection = self._rejection(request)
            if rejection is None:
                await self._call_app(request, receive)
            else:
                await request.reject(rejection)
        finally:
            self._record(request)

    def _rejection(self, request: _RequestState) -> _Rejection | None:
        """Why the request must not reach the app; None where it may."""
        path = request.path
        required_scope = self._scopes.get(path, "")
        if required_scope is not None and (rejection := self._authorize(request, required_scope)) is not None:
            return rejection
        if required_scope == "":
            return _Rejection(404, "not found", "there is nothing at this path; see /docs")
        if request.content_length is not None and request.content_length > self._limits.body_bytes:
            return self._too_large()
        return None

    def _authorize(self, request: _RequestState, required_scope: str) -> _Rejection | None:
        key_store = self._key_store
        key_store.reload_if_changed()
        caller = ""
        if key_store.enabled:
            key = None if request.token is None else key_store.authenticate(request.token)
            if key is None:
                return _KEY_MISSING if request.token is None else _KEY_INVALID
            request.key_name = key.name
            if required_scope and not key.has_scope(required_scope):
                return _Rejection(
                    403, "forbidden", f"the key {key.name} lacks the scope {required_scope}", {"scope": required_scope}
                )
            caller = key.id
        if self._limiter is not None and (wait := self._limiter.acquire(caller)):
            seconds = math.ceil(wait)
            message = f"more than {self._limits.rate:g} requests in a second; try again in {seconds} s"
            return _Rejection(429, "too many requests", message, {"retry_after": seconds}, (b"retry-after", b"%d" % seconds))
        return None

    async def _call_app(self, request: _RequestState, receive: Receive) -> None:
        task = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(self._limits.seconds, request.time_out, task, self._limits.seconds)
        if request.content_length != 0:
            receive = self._limit_body(request, receive)
        scope = request.scope
        if scope["method"] == "HEAD":  # GET without the body, which the server leaves out by its own scope
            scope = {**scope, "method": "GET"}
        try:
            await self._app(scope, receive, request.send)
        except asyncio.CancelledError:
            if request.timeout_task is None:  # not our doing
                raise
        except ClientDisconnect:
            pass  # before its body had come: no fault of the service, and nobody to answer
        except Exception as error:
            if not request.closed:
                log.error("a request failed: %s %s", request.scope["method"], request.path, exc_info=error)
                if request.status:
                    raise _ResponseAbortedError from None  # half an answer is out: the server can only hang up
                await request.reject(_INTERNAL_ERROR)
        finally:
            timer.cancel()
            if request.timeout_task is not None:
                if task is not None:
                    task.uncancel()
                await request.timeout_task

    def _limit_body(self, request: _RequestState, receive: Receive) -> Receive:
        """A `receive` that rejects a body beyond the limit, whatever its Content-Length, and sets `request.awaiting_body`."""
        bytes_left = self._limits.body_bytes

        async def receive_within_limit() -> Message:
            nonlocal bytes_left
            request.awaiting_body = not request.body_complete
            message = await receive()
            request.awaiting_body = False
            request.body_complete = not message.get("more_body", False)
            bytes_left -= len(message.get("body", b""))
            if bytes_left < 0:
                await request.reject(self._too_large())
                raise _ResponseAbortedError("the body is too large")
            return message

        return receive_within_limit

    def _too_large(self) -> _Rejection:
        max_bytes = self._limits.body_bytes
        return _Rejection(413, "too large", f"a body may have {max_bytes} bytes", {"max_bytes": max_bytes}, _CLOSE)

    def _record(self, request: _RequestState) -> None:
        scope, path = request.scope, request.path
        seconds = time.perf_counter() - request.started
        status = request.status or 499  # the caller has gone, or the service is being stopped
        self._metrics.observe_request(path if path in self._scopes else UNKNOWN_PATH, status, seconds)
        client = scope.get("client")
        self._log.log_request(
            request.received_at,
            request.id,
            scope["method"],
            path,
            status,
            seconds,
            request.key_name,
            scope["state"].get("model_version"),
            client[0] if client else None,
        )


class _ResponseAbortedError(Exception):
    """Ends the app's work on a request that has its response already, or can have none any more."""


@dataclass(frozen=True, slots=True)
class _Rejection:
    status: int
    code: str
    message: str
    extra: Mapping[str, Any] | None = None
    header: tuple[bytes, bytes] | None = None


_CLOSE = (b"connection", b"close")
_WWW_AUTHENTICATE = (b"www-authenticate", b"Bearer")
_KEY_HEADERS = "send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
_KEY_MISSING = _Rejection(401, "unauthorized", f"this service needs an API key: {_KEY_HEADERS}", header=_WWW_AUTHENTICATE)
_KEY_INVALID = _Rejection(401, "unauthorized", f"this API key is not valid: {_KEY_HEADERS}", header=_WWW_AUTHENTICATE)
_INTERNAL_ERROR = _Rejection(500, "internal", "the service failed; its log says why under this request_id")


class _RequestState:
    """One request, and its response as far as it has been sent."""

    __slots__ = (
        "_send",
        "awaiting_body",
        "body_complete",
        "closed",
        "content_length",
        "id",
        "key_name",
        "path",
        "received_at",
        "scope",
        "started",
        "status",
        "timeout_task",
        "token",
    )

    def __init__(self, scope: Scope, send: Send) -> None:
        self.started, self.received_at = time.perf_counter(), time.time()
        self.scope, self._send = scope, send
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        self.path = path[len(root) :] if root and path.startswith(root) else path  # as the router sees it
        self.status = 0
        self.closed = False  # whether the middleware has responded: what the app sends from now on is dropped
        self.awaiting_body, self.body_complete = False, False
        self.timeout_task: asyncio.Task[None] | None = None
        self.key_name: str | None = None
        self.token: bytes | None = None
        self.content_length: int | None = None
        request_id = b""
        chunked = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                if value[:7].lower() == b"bearer ":
                    self.token = value[7:].strip()
            elif name == b"x-api-key":
                self.token = value
            elif name == b"content-length":
                self.content_length = int(value) if value.isdigit() else None
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"x-request-id":
                request_id = value
        if chunked:
            self.content_length = None
        elif self.content_length is None and scope["method"] in ("GET", "HEAD"):
            self.content_length = 0
        self.id = request_id.decode() if _REQUEST_ID_PATTERN.fullmatch(request_id) else f"{_ids.getrandbits(64):016x}"
        REQUEST_ID.set(self.id)
        scope.setdefault("state", {})["request_id"] = self.id

    async def send(self, message: Message) -> None:
        """Pass on a message of the app, with the request id among its headers."""
        if self.closed:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.id.encode())]
        await self._send(message)

    async def reject(self, rejection: _Rejection) -> None:
        """Respond in place of the app."""
        self.closed, self.status = True, rejection.status
        message = {"code": rejection.code, "message": rejection.message, "request_id": self.id, **(rejection.extra or {})}
        body = orjson.dumps({"error": message})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.id.encode()),
        ]
        if rejection.header is not None:
            headers.append(rejection.header)
        await self._send({"type": "http.response.start", "status": rejection.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def time_out(self, task: asyncio.Task[Any] | None, seconds: float) -> None:
        """Cancel the app's `task` and respond without waiting for it: it may sit in a thread that nothing can interrupt."""
        self.timeout_task = asyncio.create_task(self._respond_timeout(seconds, awaiting_body=self.awaiting_body))
        if task is not None:
            task.cancel()

    async def _respond_timeout(self, seconds: float, *, awaiting_body: bool) -> None:
        if awaiting_body and not self.status:
            await self.reject(_Rejection(408, "timeout", f"the body did not come within {seconds:g} s", header=_CLOSE))
            return
        log.warning("no answer within %g s: %s %s", seconds, self.scope["method"], self.path)
        if not self.status:
            message = f"there was no answer within {seconds:g} s; the work may be too large for one request"
            await self.reject(_Rejection(503, "timeout", message, header=(b"retry-after", b"1")))
