"""Connections that are slow, idle or too many, against a real server: they end, and the others are served."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from bid_assets.serving import connections
from bid_assets.serving.connections import RESERVED_FILES, BoundedConnection, connection_limit
from bid_assets_tests.serving.http import run_app

LARGE = 20_000_000
"""Bytes of an answer: more than the kernel buffers."""
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

Open = Callable[[], socket.socket]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, whatever is left of the body."""
    if scope["type"] != "http":
        return
    size = LARGE if scope["path"] == "/large" else 2
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    for name, seconds in (("HEADER_SECONDS", 0.4), ("UNREAD_SECONDS", 0.8), ("CHECK_SECONDS", 0.1)):
        monkeypatch.setattr(connections, name, seconds)
    with run_app(app, http=BoundedConnection, ws="none", lifespan="off") as running:
        yield running


@pytest.fixture
def connected(client: httpx.Client) -> Iterator[Open]:
    with ExitStack() as stack:
        host, port = client.base_url.host, client.base_url.port
        yield lambda: stack.enter_context(socket.create_connection((host, port), timeout=5))


def ended(connection: socket.socket) -> bool:
    """Whether the server has ended the connection without another byte, within five seconds."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def send_drops(connection: socket.socket, count: int) -> None:
    for _ in range(count):
        connection.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("begun", [b"", b"P", b"POST / HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_whole_headers_ends(connected: Open, begun: bytes) -> None:
    connection = connected()
    connection.sendall(begun)
    started = time.monotonic()
    assert ended(connection)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nX-Slow: ", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n"])
def test_a_byte_now_and_then_prolongs_nothing(connected: Open, first: bytes) -> None:
    """Neither of headers nor of a body whose request is answered already."""
    connection = connected()
    connection.sendall(first)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        send_drops(connection, 100)


def test_an_answer_that_nobody_reads_is_not_kept(connected: Open) -> None:
    connection = connected()
    connection.sendall(REQUEST.replace(b"/ ", b"/large ", 1))
    time.sleep(1.5)
    taken = 0
    with suppress(ConnectionResetError):
        while chunk := connection.recv(1_000_000):
            taken += len(chunk)
    assert taken < LARGE


def test_an_answer_may_be_read_slowly(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 30)  # a busy machine may take its time, too
    with client.stream("GET", "/large") as answer:
        chunks = answer.iter_raw(1_000_000)
        next(chunks)
        time.sleep(0.6)
        assert 1_000_000 + sum(map(len, chunks)) == LARGE


def test_two_hundred_half_open_connections_leave_the_others_served(client: httpx.Client, connected: Open) -> None:
    half_open = [connected() for _ in range(200)]
    for connection in half_open:
        connection.sendall(b"POST /")
    assert client.get("/").status_code == 200
    assert all(ended(connection) for connection in half_open)
    assert client.get("/").status_code == 200


def test_where_there_are_too_many_the_oldest_idle_one_makes_room(
    connected: Open, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 30)
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 10)
    idle = [connected() for _ in range(10)]
    time.sleep(0.1)
    for _ in range(3):
        newcomer = connected()
        newcomer.sendall(REQUEST)
        assert newcomer.recv(100).startswith(b"HTTP/1.1 200")
    assert all(ended(connection) for connection in idle[:3])
    idle[-1].sendall(REQUEST)
    assert idle[-1].recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("files", "expected"), [(1024, 1024 - RESERVED_FILES), (100, 16), (-1, 1000), (10**6, 1000)])
def test_there_are_fewer_connections_than_open_files(monkeypatch: pytest.MonkeyPatch, files: int, expected: int) -> None:
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (files, files))
    assert connection_limit() == expected
