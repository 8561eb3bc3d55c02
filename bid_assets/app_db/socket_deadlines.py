"""A deadline for calls that block in a C library: the sockets that they wait on are shut down when it has passed.

libpq has deadlines for connecting and for packets that nobody acknowledges. Against a peer that acknowledges everything and
never answers (a proxy whose other side is gone) it has none. A socket that is shut down ends the wait at once, with an error of
the library.

    with Deadline(seconds, sockets) as wait:
        call()                     # raises if it was cut off
    # wait.expired tells whether it was
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

TICK_SECONDS = 0.1
"""How late a deadline may be noticed."""

Sockets = Callable[[], Iterable[socket.socket]]
"""Gives the sockets to shut down; each is closed afterwards, so they are duplicates."""


class Deadline:
    """A context in which at most so many seconds may pass; `expired` afterwards where they did."""

    def __init__(self, seconds: float, sockets: Sockets) -> None:
        self.expired = False
        self.deadline = 0.0
        self._seconds = seconds
        self._sockets = sockets

    def __enter__(self) -> Self:
        self.deadline = time.monotonic() + self._seconds
        _watch(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with _lock:
            _armed.discard(self)

    def expire(self) -> None:
        """End the wait now."""
        self.expired = True
        shut(self._sockets())


def shut(sockets: Iterable[socket.socket]) -> None:
    """Shut these down and close them; what else holds them reads that the peer is gone."""
    for each in sockets:
        with suppress(OSError), each:
            each.shutdown(socket.SHUT_RDWR)


_lock = threading.Lock()
_armed: set[Deadline] = set()
_something_armed = threading.Event()
_thread: threading.Thread | None = None


def _watch(wait: Deadline) -> None:
    global _thread
    with _lock:
        _armed.add(wait)
        if _thread is None:
            _thread = threading.Thread(target=_run, name="watchdog", daemon=True)
            _thread.start()
    if not _something_armed.is_set():
        _something_armed.set()


def _run() -> None:
    while True:
        _something_armed.wait()
        time.sleep(TICK_SECONDS)
        with _lock:  # whoever leaves the context waits for it: the sockets are still those of the call
            now = time.monotonic()
            for wait in [wait for wait in _armed if wait.deadline <= now]:
                _armed.discard(wait)
                wait.expire()
            if not _armed:
                _something_armed.clear()


def _after_fork() -> None:
    """A forked child has no watching thread, and none of its parent's calls."""
    global _lock, _something_armed, _thread
    _lock, _something_armed, _thread = threading.Lock(), threading.Event(), None
    _armed.clear()


os.register_at_fork(after_in_child=_after_fork)


def duplicate(descriptor: int) -> socket.socket:
    """The same socket by another descriptor: whoever owns the first may close it at any time."""
    return socket.socket(fileno=os.dup(descriptor))


def open_sockets() -> dict[int, int]:
    """Every open socket of this process: its inode, and a descriptor."""
    sockets = {}
    for entry in Path("/dev/fd").iterdir():
        with suppress(OSError):
            status = os.fstat(int(entry.name))
            if stat.S_ISSOCK(status.st_mode):
                sockets[status.st_ino] = int(entry.name)
    return sockets


def connected_since(known_inodes: Iterable[int], ports: Iterable[str]) -> list[socket.socket]:
    """Duplicates of sockets that are not among the inodes `known_inodes` and are connected to one of these ports of
    PostgreSQL."""
    inodes, names = set(known_inodes), set(ports)
    sockets = []
    for inode, descriptor in open_sockets().items():
        if inode in inodes:
            continue
        with suppress(OSError):
            one = duplicate(descriptor)
            if _port_of(one) in names:
                sockets.append(one)
            else:
                one.close()
    return sockets


def _port_of(one: socket.socket) -> str | None:
    """The port of the peer, by TCP or as PostgreSQL names its Unix sockets."""
    try:
        peer = one.getpeername()
    except OSError:
        return None
    if isinstance(peer, tuple):
        return str(peer[1])
    name = peer.decode(errors="replace") if isinstance(peer, bytes) else peer
    return name.rpartition(".s.PGSQL.")[2] if ".s.PGSQL." in name else None
