"""What stands between a client and PostgreSQL in firms: a network that swallows bytes, and PgBouncer."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets_tests.children import ending_with_parent
from bid_assets_tests.loops import eventually, free_port


class Proxy:
    """Passes TCP on to PostgreSQL's Unix socket, until it is told to be silent."""

    def __init__(self, url: str) -> None:
        known = parse_dsn(url)
        self._target = f"{known['host']}/.s.PGSQL.{known['port']}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._silent: set[int] = set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.swallows_all = False
        self._bytes_left: int | None = None
        self.url = f"postgresql://postgres@127.0.0.1:{self._listener.getsockname()[1]}{urlsplit(url).path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self, *, new_ones_too: bool = False) -> None:
        """Every connection that there is stays open, and silent for ever."""
        self.swallows_all = new_ones_too
        self._silent |= {id(pair) for pair in self._pairs}

    def swallow_after(self, count: int) -> None:
        """Pass on so many bytes of answers, then be silent, to new connections too."""
        self._bytes_left = count

    def recover(self) -> None:
        """New connections are passed on."""
        self.swallows_all, self._bytes_left = False, None

    def cut(self) -> None:
        """Close every connection that there is."""
        for pair in self._pairs:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            pair = (client, server)
            self._pairs.append(pair)
            if self.swallows_all:
                self._silent.add(id(pair))
            for ends in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(pair, *ends), daemon=True).start()

    def _pump(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if self._bytes_left is not None and source is pair[1]:
                    self._bytes_left -= len(data)
                    if self._bytes_left < 0:
                        self.swallow(new_ones_too=True)
                if id(pair) not in self._silent:
                    sink.sendall(data)
        if id(pair) not in self._silent:
            for one in pair:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(url: str) -> Iterator[Proxy]:
    """A proxy in front of the server of this URL."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


@contextmanager
def pgbouncer(postgres: EmbeddedServer, folder: Path, *, ignores_options: bool = False) -> Iterator[str]:
    """The address of Debian's PgBouncer in transaction mode, two connections of the server for everybody: a URL without
    a database.

    Skips the test where it is not installed.
    """
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("no pgbouncer on this machine (Debian: apt-get install pgbouncer)")
    port = free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host={postgres.sockets} port=5432 user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
        + ("ignore_startup_parameters = options\n" if ignores_options else "")
    )
    uid, gid = postgres.account or (None, None)  # it refuses to run as root, and may not read root's files
    if postgres.account is not None:
        os.chown(configuration, *postgres.account)
    with configuration.open() as handed:
        process = subprocess.Popen(
            [program, "-q", f"/dev/fd/{handed.fileno()}"],
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            cwd="/",
            pass_fds=[handed.fileno()],
            preexec_fn=ending_with_parent(signal.SIGTERM),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    url = f"postgresql://postgres@127.0.0.1:{port}"

    def answers() -> bool:
        try:
            psycopg2.connect(f"{url}/postgres", connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    try:
        eventually(answers, what="PgBouncer to answer")
        yield url
    finally:
        process.terminate()
        process.wait(10)
