"""The watchdog of an embedded PostgreSQL: a process that stops the server when the last lease is gone, however its holder
ended.

python -m bid_assets.embedded_postgres.watchdog FOLDER LEASES STARTING

Processes that end normally stop the server themselves (`server.py`). This is for those that were killed. It ends with the
server.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

POLL_SECONDS = 1.0


def main(folder: Path, leases: str, starting: str) -> None:
    """Watch the locks of `folder` until nobody has a lease on its server, or it has none any more."""
    lease, turn = (os.open(folder / name, os.O_RDWR) for name in (leases, starting))
    while _is_at(turn, folder / starting) and (folder / "data" / "postmaster.pid").exists():
        time.sleep(POLL_SECONDS)
        if not try_lock(turn):  # somebody is just coming or going
            continue
        try:
            if try_lock(lease):
                from bid_assets.embedded_postgres.postmaster import stop

                stop(folder / "data")
                return
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)


def try_lock(file: int) -> bool:
    """Take the lock of a file, if nobody has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is still what lies at `path`; the folder may have been removed, or another made in its place."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # nobody has to wait for the other one
    main(Path(sys.argv[1]), *sys.argv[2:4])
