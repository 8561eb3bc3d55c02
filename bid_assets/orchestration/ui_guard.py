"""Who may talk to Dagster's UI, which has no login: an ASGI middleware that refuses requests from other websites.

A page that a person of this machine has open elsewhere can send requests to the UI in two ways. It can name the UI's address,
as any link does: browsers say then where the request comes from (`Origin`, `Sec-Fetch-Site`). Or it can let its own name point
to this machine (DNS rebinding): then `Host` is that name. Requests and web sockets of either kind are refused, with whatever
method.

Knows nothing of Dagster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from bid_assets.common.network import is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PAGE = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


class UnguardedUiError(ValueError):
    """Others than this machine could reach the UI, which has no login; the message says what to do instead."""


def refuse_unguarded(host: str, names: Collection[str]) -> None:
    """Raise `UnguardedUiError` where the UI would listen beyond this machine and nobody has said what is in front of it."""
    if is_loopback(host) or names:
        return
    raise UnguardedUiError(
        f"refusing to let Dagster's UI listen on {host}: it has no login, and whoever reaches it can launch runs and approve "
        f"models. From another machine use a tunnel (`ssh -L 3000:127.0.0.1:3000 THIS_MACHINE`, then http://localhost:3000). "
        "For several people put a proxy with a login of its own in front, which passes on the Host header, and set "
        "BID_ASSETS_UI_HOSTS to the names under which it is reached. Only the prediction service is meant? Use --service-host"
    )


class ForeignRequestGuard:
    """Lets requests pass whose `Host` is loopback or among `names`, and whose origin is the page of that very host."""

    def __init__(self, app: App, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403 with the reason."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the handshake; closing it unanswered is a 403
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})
        else:
            body = f"{refusal}\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> str | None:
        """Why the request is refused; None where it is not."""
        hosts, origins = _values(scope, "host"), _values(scope, "origin")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return (
                "refused: this host name is not one of Dagster's UI. Use localhost or 127.0.0.1; behind a proxy, set "
                "BID_ASSETS_UI_HOSTS to the names that it passes on"
            )
        if any(_authority(origin) != hosts[0].lower() for origin in origins):
            return "refused: the request comes from a page of another origin"
        if _sites(scope) & {"cross-site", "same-site"} and not _opens_a_page(scope):
            return "refused: the request comes from another website"
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and "@" not in host and (name in self._names or is_loopback(name))


def _opens_a_page(scope: Scope) -> bool:
    """Whether a person has followed a link to a page of the UI. GraphQL's address is none: a query there may change things."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and not scope["path"].rstrip("/").endswith("graphql")
        and all(_values(scope, name) == [value] for name, value in _PAGE.items())
    )


def _sites(scope: Scope) -> set[str]:
    return {value.lower() for value in _values(scope, "sec-fetch-site")}


def _authority(origin: str) -> str:
    """Host and port of an origin, as `Host` has them; of `null` and the like nothing that could be a host."""
    scheme, _, authority = origin.lower().partition("://")
    return authority if scheme in ("http", "https") else ""


def _values(scope: Scope, name: str) -> list[str]:
    encoded = name.encode()
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key.lower() == encoded]
