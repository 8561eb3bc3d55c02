"""Private permissions of the platform's files, whatever the umask of the shell: files 0600, directories 0700.

Every process of ours calls `restrict_umask` before it writes anything, and its children inherit that: so what Dagster,
PostgreSQL's programs or LMDB write is private too. The home directory is closed besides, for what an older version has left
open in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_GROUP_AND_OTHERS = 0o077
_GROUP_TRAVERSE = 0o010
"""As root, PostgreSQL's user may traverse the home directory to its data by its group (`embedded_postgres/paths.py`), not list
it."""


def restrict_umask() -> None:
    """From now on this process and its children make files and folders for their owner only."""
    os.umask(_GROUP_AND_OTHERS)


def ensure_private_home(home: Path) -> Path:
    """The home directory: created if missing, and closed to others if it is ours."""
    missing = [folder for folder in home.parents if not folder.exists()]
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for folder in missing:  # they hold no state; PostgreSQL's user has to pass them
            folder.chmod(0o711)
    status = home.stat()
    kept = _GROUP_TRAVERSE if os.geteuid() == 0 and _group_may_traverse(home, status.st_gid) else 0
    if status.st_uid == os.geteuid() and status.st_mode & _GROUP_AND_OTHERS & ~kept:
        home.chmod(stat.S_IMODE(status.st_mode) & ~(_GROUP_AND_OTHERS & ~kept))
    return home


def _group_may_traverse(home: Path, group: int) -> bool:
    """Whether the group is the one of PostgreSQL's user. Data that an older version has made under an open home get it."""
    data = home / "postgres" / "data"
    if not data.exists():
        return group != 0
    owner = data.stat().st_gid
    if owner != group:
        os.chown(home, -1, owner)
        home.chmod(home.stat().st_mode | _GROUP_TRAVERSE)
    return True
