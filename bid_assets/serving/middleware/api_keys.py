"""API keys: who may ask the service, and for what. A file of hashes, and the ring that every request is checked against.

A key looks like `ba_<id>_<secret>`. Its secret is 256 random bits, which nobody can guess however fast the hash is that they try it
with: plain SHA-256 is right here, and costs a request a microsecond. (Slow hashes are for passwords, which people choose.)
"""

from __future__ import annotations

import fcntl
import hmac
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from bid_assets.common.network import is_loopback
from bid_assets.common.windows import utc_now

log = logging.getLogger(__name__)

PREDICT, ADMIN = "predict", "admin"
SCOPES = (PREDICT, ADMIN)

CHECK_SECONDS = 1.0
"""A request looks for changes of the file no sooner than this after the last look: so long may a revoked key live."""

KEYS_REQUIRED = "_BID_ASSETS_KEYS_REQUIRED"
"""Environment variable by which `serve` tells its workers, also those that it starts anew, that it has seen keys."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(rb"ba_([0-9a-f]{8})_([0-9a-f]{64})")
_NOBODY = bytes(32)  # compared with where an id is unknown: no secret is known that hashes to it


class KeyProblem(ValueError):
    """The file of keys, or what was asked of it, is not as it must be; the message says what to do."""


@dataclass(frozen=True)
class Key:
    """What is known of a key; its secret is not."""

    id: str
    name: str
    scopes: frozenset[str]
    sha256: bytes
    created_at: datetime

    def may(self, scope: str) -> bool:
        """Whether the key has the scope; `admin` includes every other."""
        return scope in self.scopes or ADMIN in self.scopes


class KeyRing:
    """The keys of a file as requests need them. It notices within a second what `create_key` and `revoke_key` have done.

    Where there has never been a file there is no authentication (`on` is False). Once there was one, there is, whatever becomes of
    the file: while it is gone no key is valid, while it is damaged those are that were. A process that starts later knows by the
    marker beside the file.
    """

    def __init__(self, path: Path, *, required: bool = False) -> None:
        """`required`: keys are asked for even if there has never been a file. Raises `KeyProblem` where the file is damaged."""
        self.path = path
        self._seen = _stamp(path)
        self._keys = {key.id.encode(): key for key in read_keys(path)}
        self.on = required or self._seen is not None or marker_of(path).exists()
        if self._seen is not None:
            with suppress(OSError):  # keys that are mounted read-only
                _mark(path)
        elif self.on:
            log.error(
                "%s is gone, and there had been keys: nobody is served until it is back, or `bid-assets keys create`", path
            )
        self._look_at = time.monotonic() + CHECK_SECONDS

    @property
    def keys(self) -> Sequence[Key]:
        """The valid keys."""
        return list(self._keys.values())

    def look(self) -> None:
        """Read the file again if it has changed; costs nothing where the last look was less than a second ago."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + CHECK_SECONDS
        try:
            stamp = _stamp(self.path)
            if stamp == self._seen:
                return
            self._seen, self.on = stamp, True
            self._keys = {key.id.encode(): key for key in read_keys(self.path)}
        except (KeyProblem, OSError) as error:
            log.error("the API keys of before stay valid: %s", error)

    def key_of(self, token: bytes) -> Key | None:
        """The key that a token is of; None where it is none. An unknown id takes as long as a wrong secret."""
        parts = _TOKEN.fullmatch(token)
        ident, secret = parts.groups() if parts else (b"", token)
        key = self._keys.get(ident)
        expected = _NOBODY if key is None else key.sha256
        return key if hmac.compare_digest(sha256(secret).digest(), expected) else None


def refuse_open_door(host: str, ring: KeyRing) -> None:
    """Raise `KeyProblem` where others than this machine could reach a service that asks for no key."""
    if ring.keys or is_loopback(host):
        return
    raise KeyProblem(
        f"refusing to listen on {host}: there are no API keys in {ring.path}, so anybody who reaches this address could ask. "
        "Make a key with `bid-assets keys create NAME --scope predict`, or listen on 127.0.0.1"
    )


def create_key(path: Path, name: str, scopes: Sequence[str]) -> str:
    """Add a key and give its token, which nobody can tell again. Raises `KeyProblem`."""
    if not _NAME.fullmatch(name):
        raise KeyProblem(f"{name!r} is no name for a key: letters, digits, `.`, `_` and `-`, at most 64")
    if not scopes or set(scopes) - set(SCOPES):
        raise KeyProblem(f"a key has scopes out of {', '.join(SCOPES)}, not {', '.join(scopes) or 'none'}")
    with _turn(path):
        keys = read_keys(path)
        if any(key.name == name for key in keys):
            raise KeyProblem(f"there is a key called {name} already: choose another name, or revoke it first")
        ident, secret = secrets.token_hex(4), secrets.token_hex(32)
        while any(key.id == ident for key in keys):
            ident = secrets.token_hex(4)
        made = Key(ident, name, frozenset(scopes), sha256(secret.encode()).digest(), utc_now())
        _write(path, [*keys, made])
    return f"ba_{ident}_{secret}"


def revoke_key(path: Path, name: str) -> Key:
    """Remove the key of this name or id. Raises `KeyProblem` where there is none."""
    with _turn(path):
        keys = read_keys(path)
        gone = next((key for key in keys if name in (key.name, key.id)), None)
        if gone is None:
            known = ", ".join(sorted(key.name for key in keys)) or "none"
            raise KeyProblem(f"no key is called {name}; there are: {known}")
        _write(path, [key for key in keys if key is not gone])
    return gone


def read_keys(path: Path) -> list[Key]:
    """The keys of a file, in the order in which they were made; none where there is no file. Raises `KeyProblem`."""
    try:
        return [_key(row) for row in orjson.loads(path.read_bytes())["keys"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise KeyProblem(f"{path} is damaged ({error!r}): restore it, or delete it and make new keys") from None


def marker_of(path: Path) -> Path:
    """The file that says that there have been keys: with it and without the file of keys, nobody is served."""
    return path.with_name(f"{path.name}.required")


def _mark(path: Path) -> None:
    marker = marker_of(path)
    if not marker.exists():
        marker.write_text(f"There are or were API keys in {path.name}: without a valid key nobody is served.\n")


def _key(row: dict[str, Any]) -> Key:
    made = datetime.fromisoformat(row["created_at"])
    return Key(row["id"], row["name"], frozenset(row["scopes"]), bytes.fromhex(row["sha256"]), made)


def _write(path: Path, keys: Sequence[Key]) -> None:
    """Beside, for the owner only, on disk; then over the old one. The marker is there first."""
    _mark(path)
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "scopes": sorted(key.scopes),
            "sha256": key.sha256.hex(),
            "created_at": key.created_at.isoformat(),
        }
        for key in keys
    ]
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)  # made with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps({"keys": rows}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """One writer at a time, so that none undoes what another did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with the file; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
