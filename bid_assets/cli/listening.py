"""What commands that listen on an address share: whether it is free and where it is reached, and signals that end them in
order.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager


def require_free_port(host: str, port: int, option: str = "--port") -> None:
    """Raise `OSError` where somebody else listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"cannot listen on {host}:{port}: {error.strerror}. Stop what is there, or choose another {option}"
            ) from None


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """SIGTERM stops like Ctrl-C, also in a shell's background job, where SIGINT is ignored otherwise."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def reachable(host: str) -> str:
    """The address under which this machine reaches what listens on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "") else host
