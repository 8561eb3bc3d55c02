"""API keys of the service: a file of hashes with scopes, what changes it, and the store that authenticates requests.

A key looks like `ba_<id>_<secret>`. Its secret is 256 random bits, which nobody can guess however fast the hash is that they
try it with: plain SHA-256 is right here, and costs a request a microsecond. Slow hashes are for passwords, which people choose.
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
"""A request checks the file for changes no sooner than this after the last check: a revoked key stays valid no longer."""

KEYS_REQUIRED = "_BID_ASSETS_KEYS_REQUIRED"
"""Environment variable by which `serve` makes its workers, also those that it starts anew, require keys."""

_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN_PATTERN = re.compile(rb"ba_([0-9a-f]{8})_([0-9a-f]{64})")
_DUMMY_DIGEST = bytes(32)  # compared with where an id is unknown: no secret is known that hashes to it


class ApiKeyError(ValueError):
    """The file of keys is damaged, or a change of it is not possible; the message says what to do."""


@dataclass(frozen=True)
class ApiKey:
    """An API key without its secret, of which only the SHA-256 is kept."""

    id: str
    name: str
    scopes: frozenset[str]
    sha256: bytes
    created_at: datetime

    def has_scope(self, scope: str) -> bool:
        """Whether the key has the scope; `admin` includes every other."""
        return scope in self.scopes or ADMIN in self.scopes


class ApiKeyStore:
    """The API keys of a file, in memory. Changes by `create_key` and `revoke_key` count within a second.

    Where there has never been a file there is no authentication (`enabled` is False). Once there was one, there is, whatever
    becomes of the file: while it is gone no key is valid, while it is damaged those are that were. A process that starts later
    knows by the marker beside the file.
    """

    def __init__(self, path: Path, *, required: bool = False) -> None:
        """`required`: authenticate even if there has never been a file. Raises `ApiKeyError` where the file is damaged."""
        self.path = path
        self._stamp = _file_stamp(path)
        self._keys = {key.id.encode(): key for key in read_keys(path)}
        self.enabled = required or self._stamp is not None or marker_path(path).exists()
        if self._stamp is not None:
            with suppress(OSError):  # keys that are mounted read-only
                _write_marker(path)
        elif self.enabled:
            log.error(
                "%s is gone, and there had been keys: nobody is served until it is back, or `bid-assets keys create`", path
            )
        self._next_check = time.monotonic() + CHECK_SECONDS

    @property
    def keys(self) -> Sequence[ApiKey]:
        """The valid keys."""
        return list(self._keys.values())

    def reload_if_changed(self) -> None:
        """Read the file again if it has changed; costs nothing where the last check was less than a second ago."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_SECONDS
        try:
            stamp = _file_stamp(self.path)
            if stamp == self._stamp:
                return
            self._stamp, self.enabled = stamp, True
            self._keys = {key.id.encode(): key for key in read_keys(self.path)}
        except (ApiKeyError, OSError) as error:
            log.error("the API keys of before stay valid: %s", error)

    def authenticate(self, token: bytes) -> ApiKey | None:
        """The key of a valid token, else None. An unknown id takes as long as a wrong secret."""
        parts = _TOKEN_PATTERN.fullmatch(token)
        key_id, secret = parts.groups() if parts else (b"", token)
        key = self._keys.get(key_id)
        expected = _DUMMY_DIGEST if key is None else key.sha256
        return key if hmac.compare_digest(sha256(secret).digest(), expected) else None


def require_keys_off_loopback(host: str, key_store: ApiKeyStore) -> None:
    """Raise `ApiKeyError` where a service without keys would listen on an address that other machines can reach."""
    if key_store.keys or is_loopback(host):
        return
    raise ApiKeyError(
        f"refusing to listen on {host}: there are no API keys in {key_store.path}, so anybody who reaches this address could "
        "send requests. Make a key with `bid-assets keys create NAME --scope predict`, or listen on 127.0.0.1"
    )


def create_key(path: Path, name: str, scopes: Sequence[str]) -> str:
    """Add a key; its token, which cannot be shown again. Raises `ApiKeyError`."""
    if not _NAME_PATTERN.fullmatch(name):
        raise ApiKeyError(f"{name!r} is no name for a key: letters, digits, `.`, `_` and `-`, at most 64")
    if not scopes or set(scopes) - set(SCOPES):
        raise ApiKeyError(f"a key has scopes out of {', '.join(SCOPES)}, not {', '.join(scopes) or 'none'}")
    with _file_lock(path):
        keys = read_keys(path)
        if any(key.name == name for key in keys):
            raise ApiKeyError(f"there is a key called {name} already: choose another name, or revoke it first")
        key_id, secret = secrets.token_hex(4), secrets.token_hex(32)
        while any(key.id == key_id for key in keys):
            key_id = secrets.token_hex(4)
        key = ApiKey(key_id, name, frozenset(scopes), sha256(secret.encode()).digest(), utc_now())
        _write(path, [*keys, key])
    return f"ba_{key_id}_{secret}"


def revoke_key(path: Path, name: str) -> ApiKey:
    """Remove the key of this name or id. Raises `ApiKeyError` where there is none."""
    with _file_lock(path):
        keys = read_keys(path)
        revoked = next((key for key in keys if name in (key.name, key.id)), None)
        if revoked is None:
            known = ", ".join(sorted(key.name for key in keys)) or "none"
            raise ApiKeyError(f"no key is called {name}; there are: {known}")
        _write(path, [key for key in keys if key is not revoked])
    return revoked


def read_keys(path: Path) -> list[ApiKey]:
    """The keys of a file, oldest first; none where there is no file. Raises `ApiKeyError`."""
    try:
        return [_key_from_json(row) for row in orjson.loads(path.read_bytes())["keys"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise ApiKeyError(f"{path} is damaged ({error!r}): restore it, or delete it and make new keys") from None


def marker_path(path: Path) -> Path:
    """The marker file beside the keys: where it exists and the file of keys does not, no request is authenticated."""
    return path.with_name(f"{path.name}.required")


def _write_marker(path: Path) -> None:
    marker = marker_path(path)
    if not marker.exists():
        marker.write_text(f"There are or were API keys in {path.name}: without a valid key nobody is served.\n")


def _key_from_json(row: dict[str, Any]) -> ApiKey:
    created_at = datetime.fromisoformat(row["created_at"])
    return ApiKey(row["id"], row["name"], frozenset(row["scopes"]), bytes.fromhex(row["sha256"]), created_at)


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace the file atomically, readable by its owner only. The marker is written first."""
    _write_marker(path)
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
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)  # has mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps({"keys": rows}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of the file: one writer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Modification time (ns), inode and size of the file, which tell whether it has changed; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
