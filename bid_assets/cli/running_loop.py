"""Which `bid-assets up` turns the loop of a home: at most one, and with which settings.

It holds a lock on a file of the home, which the kernel releases however the process ends; the file says who holds it. Passwords
are never written there.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from bid_assets.common.private_state import ensure_private_home
from bid_assets.common.renamed_settings import with_current_names
from bid_assets.common.windows import utc_now
from bid_assets.settings import Settings

FILE = "up.json"
_READER_SECONDS = 2.0
"""How long one who only looks whether the lock is held may hold it."""


class LoopAlreadyRunningError(RuntimeError):
    """Another process turns the loop of this home; the message says which."""


@dataclass(frozen=True)
class RunningLoop:
    """What `bid-assets up` has said of itself."""

    pid: int
    started_at: datetime
    settings: dict[str, Any]
    """As JSON; of URLs only what is no secret."""


@dataclass(frozen=True)
class SettingDifference:
    """A setting that is not the same in the running loop and in this process."""

    variable: str
    loop: Any
    here: Any


@contextmanager
def exclusive_loop(settings: Settings) -> Iterator[None]:
    """Be the one that turns the loop of this home, and say with which settings. Raises `LoopAlreadyRunningError`."""
    lock = os.open(ensure_private_home(settings.home) / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(lock, settings.home)
        description = {"pid": os.getpid(), "started_at": utc_now().isoformat(), "settings": shown_settings(settings)}
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(description, indent=1).encode(), 0)
        yield
    finally:
        os.close(lock)


def running_loop(home: Path) -> RunningLoop | None:
    """The process that turns the loop of this home, if one does."""
    try:
        with (home / FILE).open() as file:
            if _try_lock(file.fileno(), fcntl.LOCK_SH):
                return None
            description = json.load(file)
            return RunningLoop(
                description["pid"],
                datetime.fromisoformat(description["started_at"]),
                with_current_names(description["settings"]),
            )
    except (FileNotFoundError, ValueError, KeyError):  # none; or it is just starting, and has not said anything yet
        return None


def settings_of_loop(own: Settings) -> tuple[Settings, list[SettingDifference]]:
    """The settings of the loop that runs in the home of `own`, or `own` where none runs, and where the two differ.

    Logins are not known of others: database URLs are always those of `own`, also where they lead elsewhere.
    """
    running, here = running_loop(own.home), shown_settings(own)
    if running is None:
        return own, []
    differing = {name: value for name, value in running.settings.items() if name in here and value != here[name]}
    values = {name: value for name, value in differing.items() if not name.endswith("_db_url")}
    try:
        settings = Settings(**{**own.model_dump(), **values})
    except ValidationError:  # of another version of the code
        settings = own
    return settings, [SettingDifference(f"BID_ASSETS_{name.upper()}", value, here[name]) for name, value in differing.items()]


def difference_in_words(difference: SettingDifference) -> str:
    """For a person, as a command would set it."""
    loop, here = ("unset" if value is None else value for value in (difference.loop, difference.here))
    return f"{difference.variable}={loop} (here: {here})"


def shown_settings(settings: Settings) -> dict[str, Any]:
    """All settings as JSON; of a URL that has a login or options, only where it leads."""
    values = settings.model_dump(mode="json")
    return {name: _without_credentials(value) if value and name.endswith("_url") else value for name, value in values.items()}


def _without_credentials(url: str) -> str:
    """Scheme, host and path of a URL; of what is none not a word, since a password may be anywhere in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(set)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else "(set)"


def _acquire(lock: int, home: Path) -> None:
    deadline = time.monotonic() + _READER_SECONDS
    while not _try_lock(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            other = running_loop(home)
            who = f"process {other.pid}, since {other.started_at:%Y-%m-%d %H:%M:%S} UTC" if other else "another process"
            raise LoopAlreadyRunningError(
                f"`bid-assets up` runs already in {home} ({who}): stop it first, or set BID_ASSETS_HOME to another folder"
            )
        time.sleep(0.05)


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
