"""State is its owner's alone, whatever the umask of the shell: files 0600, folders 0700.

Every process of ours calls `keep_private` before it writes anything, and its children inherit that: also what Dagster, PostgreSQL's
programs or LMDB write is private so. The home folder is closed besides, for what an older version has left open in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OTHERS = 0o077
_PASS = 0o010
"""As root PostgreSQL's user, by its group, may pass through the home folder to its data (`embedded_postgres/paths.py`); it may not list it."""


def keep_private() -> None:
    """From now on this process and its children make files and folders for their owner only."""
    os.umask(_OTHERS)


def private_home(home: Path) -> Path:
    """The home folder, made if it is missing, and closed to others if it is ours."""
    missing = [folder for folder in home.parents if not folder.exists()]
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for folder in missing:  # they hold no state; PostgreSQL's user has to pass them
            folder.chmod(0o711)
    found = home.stat()
    keeps = _PASS if os.geteuid() == 0 and _group_passes(home, found.st_gid) else 0
    if found.st_uid == os.geteuid() and found.st_mode & _OTHERS & ~keeps:
        home.chmod(stat.S_IMODE(found.st_mode) & ~(_OTHERS & ~keeps))
    return home


def _group_passes(home: Path, group: int) -> bool:
    """Whether the group is the one of PostgreSQL's user. Data that an older version has made under an open home get it."""
    data = home / "postgres" / "data"
    if not data.exists():
        return group != 0
    owner = data.stat().st_gid
    if owner != group:
        os.chown(home, -1, owner)
        home.chmod(home.stat().st_mode | _PASS)
    return True
