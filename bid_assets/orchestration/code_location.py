"""A code server's definitions follow the first window: they are built for the one of their moment, and loaded again when it
moves.

`up` asks regularly. Daemon and web server detect by themselves that the code server has loaded its code again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dagster._grpc.client import DagsterGrpcClient

from bid_assets.app_db.connections import DATABASE_ERRORS
from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.snapshot_reader import open_snapshot
from bid_assets.orchestration.first_window import update_first_window, with_first_window
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

_RELOAD_SECONDS = 120


def follow_first_window(
    settings: Settings, store: VersionStore, socket: Path, report: Callable[[str, str], None]
) -> Callable[[], None]:
    """A function that has the code server at `socket` load its code again if the first window has moved since it last did.

    The first window is looked for in the database now, before the code is loaded for the first time; where that cannot be
    read yet, the loop learns it later. The function raises Dagster's errors where the code server does not answer.
    """
    with (
        suppress(*DATABASE_ERRORS),
        open_snapshot(app_db_url(settings), cadence=settings.cadence, silence=settings.db_silence_seconds) as snapshot,
    ):
        update_first_window(settings, store, snapshot.oldest_valid_bid())
    loaded = with_first_window(settings, store).first_moment

    def reload_if_moved() -> None:
        nonlocal loaded
        first = with_first_window(settings, store).first_moment
        if first == loaded:
            return
        DagsterGrpcClient(socket=str(socket)).reload_code(timeout=_RELOAD_SECONDS)
        loaded = first
        report("code server", f"has loaded its code again: the first window is now {settings.cadence.key(first)}")

    return reload_if_moved
