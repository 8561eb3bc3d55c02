"""The door of the service: request ids, API keys and scopes, limits of rate, size and time, and an answer whatever happens.

A pure ASGI middleware, since it stands before every request: some ten microseconds. Add it inside the app
(`app.add_middleware(Guard, ...)`), so that it sees what a handler raises before Starlette's own outermost layer does.

Every refusal looks like the app's own errors: `{"error": {"code", "message", "request_id", ...}}`.
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

from bid_assets.serving.middleware.access_log import REQUEST_ID, Answered, JsonLog
from bid_assets.serving.middleware.api_keys import ApiKeyStore
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.settings import Settings

log = logging.getLogger(__name__)

OTHER = "other"
"""What every path that the service does not have is called in the figures."""

_ids = Random()  # no secrets: the system's randomness costs a call that may give the turn to another thread
os.register_at_fork(after_in_child=_ids.seed)
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Limits:
    """How much one request, or the requests of one key, may take."""

    body_bytes: int
    seconds: float
    rate: float | None = None
    """Requests of one key in a second; None: any number."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that are set."""
        return cls(settings.serving_max_body_bytes, settings.serving_timeout_seconds, settings.serving_rate_limit)


class Guard:
    """Lets requests through to the app, and answers those that it does not let through."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        scopes: Mapping[str, str | None],
        key_store: ApiKeyStore,
        limits: Limits,
        log: JsonLog,
        metrics: Metrics,
    ) -> None:
        """`scopes`: every path of the app, and the scope that it needs (None: it is open to all).

        The app never sees another path: whatever its router might make of it (a line break at the end, say) needs no scope
        to be known.
        """
        self._app, self._scopes, self._key_store, self._limits = app, dict(scopes), key_store, limits
        self._log, self._metrics = log, metrics
        self._buckets = None if limits.rate is None else _Buckets(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request; the app's life cycle passes."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        exchange = _Exchange(scope, send)
        try:
            refusal = self._refusal(exchange)
            if refusal is None:
                await self._let_in(exchange, receive)
            else:
                await exchange.refuse(refusal)
        finally:
            self._tell(exchange)

    def _refusal(self, exchange: _Exchange) -> _Refusal | None:
        """Why the request must not reach the app; None where it may."""
        path = exchange.path
        needed = self._scopes.get(path, "")
        if needed is not None and (refusal := self._without_right(exchange, needed)) is not None:
            return refusal
        if needed == "":
            return _Refusal(404, "not found", "there is nothing at this path; /docs tells what there is")
        if exchange.length is not None and exchange.length > self._limits.body_bytes:
            return self._too_large()
        return None

    def _without_right(self, exchange: _Exchange, needed: str) -> _Refusal | None:
        key_store = self._key_store
        key_store.reload_if_changed()
        caller = ""
        if key_store.enabled:
            key = None if exchange.token is None else key_store.authenticate(exchange.token)
            if key is None:
                return _NO_KEY if exchange.token is None else _NOT_VALID
            exchange.key = key.name
            if needed and not key.has_scope(needed):
                return _Refusal(403, "forbidden", f"the key {key.name} lacks the scope {needed}", {"scope": needed})
            caller = key.id
        if self._buckets is not None and (wait := self._buckets.wait(caller)):
            seconds = math.ceil(wait)
            told = f"more than {self._limits.rate:g} requests in a second; try again in {seconds} s"
            return _Refusal(429, "too many requests", told, {"retry_after": seconds}, (b"retry-after", b"%d" % seconds))
        return None

    async def _let_in(self, exchange: _Exchange, receive: Receive) -> None:
        task = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(self._limits.seconds, exchange.expire, task, self._limits.seconds)
        if exchange.length != 0:
            receive = self._counted(exchange, receive)
        scope = exchange.scope
        if scope["method"] == "HEAD":  # GET without the body, which the server leaves out by its own scope
            scope = {**scope, "method": "GET"}
        try:
            await self._app(scope, receive, exchange.send)
        except asyncio.CancelledError:
            if exchange.expiring is None:  # not our doing
                raise
        except ClientDisconnect:
            pass  # before its body had come: no fault of the service, and nobody to answer
        except Exception as error:
            if not exchange.closed:
                log.error("a request failed: %s %s", exchange.scope["method"], exchange.path, exc_info=error)
                if exchange.status:
                    raise _Broken from None  # half an answer is out: the server can only hang up
                await exchange.refuse(_FAILED)
        finally:
            timer.cancel()
            if exchange.expiring is not None:
                if task is not None:
                    task.uncancel()
                await exchange.expiring

    def _counted(self, exchange: _Exchange, receive: Receive) -> Receive:
        """No more of a body is taken in than is allowed, whether or not it says how long it is; `exchange` knows that it is awaited."""
        room = self._limits.body_bytes

        async def counted() -> Message:
            nonlocal room
            exchange.body_awaited = not exchange.body_complete
            message = await receive()
            exchange.body_awaited = False
            exchange.body_complete = not message.get("more_body", False)
            room -= len(message.get("body", b""))
            if room < 0:
                await exchange.refuse(self._too_large())
                raise _Broken("the body is too large")
            return message

        return counted

    def _too_large(self) -> _Refusal:
        most = self._limits.body_bytes
        return _Refusal(413, "too large", f"a body may have {most} bytes", {"max_bytes": most}, _CLOSE)

    def _tell(self, exchange: _Exchange) -> None:
        scope, path = exchange.scope, exchange.path
        seconds = time.perf_counter() - exchange.started
        status = exchange.status or 499  # the caller has gone, or the service is being stopped
        self._metrics.observe_request(path if path in self._scopes else OTHER, status, seconds)
        client = scope.get("client")
        self._log.request(
            Answered(
                exchange.at,
                exchange.id,
                scope["method"],
                path,
                status,
                seconds,
                exchange.key,
                scope["state"].get("model_version"),
                client[0] if client else None,
            )
        )


class _Broken(Exception):
    """Ends the app's work on a request that is answered already, or cannot be any more."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    code: str
    message: str
    more: Mapping[str, Any] | None = None
    header: tuple[bytes, bytes] | None = None


_CLOSE = (b"connection", b"close")
_ASK = (b"www-authenticate", b"Bearer")
_HOW = "send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
_NO_KEY = _Refusal(401, "unauthorized", f"this service needs an API key: {_HOW}", header=_ASK)
_NOT_VALID = _Refusal(401, "unauthorized", f"this API key is not valid: {_HOW}", header=_ASK)
_FAILED = _Refusal(500, "internal", "the service failed; its log tells why under this request_id")


class _Exchange:
    """One request, and the answer to it as far as it is out."""

    __slots__ = (
        "_send",
        "at",
        "body_awaited",
        "body_complete",
        "closed",
        "expiring",
        "id",
        "key",
        "length",
        "path",
        "scope",
        "started",
        "status",
        "token",
    )

    def __init__(self, scope: Scope, send: Send) -> None:
        self.started, self.at = time.perf_counter(), time.time()
        self.scope, self._send = scope, send
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        self.path = path[len(root) :] if root and path.startswith(root) else path  # as the router sees it
        self.status = 0
        self.closed = False  # whether the guard has answered: what the app sends from now on is dropped
        self.body_awaited, self.body_complete = False, False
        self.expiring: asyncio.Task[None] | None = None
        self.key: str | None = None
        self.token: bytes | None = None
        self.length: int | None = None
        given = b""
        chunked = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                if value[:7].lower() == b"bearer ":
                    self.token = value[7:].strip()
            elif name == b"x-api-key":
                self.token = value
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else None
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"x-request-id":
                given = value
        if chunked:
            self.length = None
        elif self.length is None and scope["method"] in ("GET", "HEAD"):
            self.length = 0
        self.id = given.decode() if _SANE_ID.fullmatch(given) else f"{_ids.getrandbits(64):016x}"
        REQUEST_ID.set(self.id)
        scope.setdefault("state", {})["request_id"] = self.id

    async def send(self, message: Message) -> None:
        """What the app says, with the request's id."""
        if self.closed:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.id.encode())]
        await self._send(message)

    async def refuse(self, refusal: _Refusal) -> None:
        """Answer in place of the app."""
        self.closed, self.status = True, refusal.status
        told = {"code": refusal.code, "message": refusal.message, "request_id": self.id, **(refusal.more or {})}
        body = orjson.dumps({"error": told})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.id.encode()),
        ]
        if refusal.header is not None:
            headers.append(refusal.header)
        await self._send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def expire(self, task: asyncio.Task[Any] | None, seconds: float) -> None:
        """Time is up. The answer does not wait for the app, which may sit in a thread that nothing can interrupt."""
        self.expiring = asyncio.create_task(self._expired(seconds, body_awaited=self.body_awaited))
        if task is not None:
            task.cancel()

    async def _expired(self, seconds: float, *, body_awaited: bool) -> None:
        if body_awaited and not self.status:
            await self.refuse(_Refusal(408, "timeout", f"the body did not come within {seconds:g} s", header=_CLOSE))
            return
        log.warning("no answer within %g s: %s %s", seconds, self.scope["method"], self.path)
        if not self.status:
            told = f"there was no answer within {seconds:g} s; the work may be too large for one request"
            await self.refuse(_Refusal(503, "timeout", told, header=(b"retry-after", b"1")))


class _Buckets:
    """A bucket of tokens for each caller: it holds those of one second, at least one."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(1.0, rate)
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, caller: str) -> float:
        """Take a token; or the seconds until there is one."""
        now = time.monotonic()
        left, then = self._left.get(caller, (self._most, now))
        left = min(self._most, left + (now - then) * self._rate)
        if left < 1:
            self._left[caller] = left, now
            return (1 - left) / self._rate
        self._left[caller] = left - 1, now
        return 0.0
