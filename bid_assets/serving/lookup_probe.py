"""Health probe of the point lookup: an empty look-up every two seconds, on a connection of its own, whatever requests come."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from bid_assets.app_db.connections import DATABASE_ERRORS
from bid_assets.app_db.point_lookup import PointLookup

log = logging.getLogger(__name__)

PROBE_SECONDS = 2.0


class LookupProbe:
    """Runs an empty look-up again and again in a thread; its failure is `PointLookup.failure`, as of every other look-up."""

    def __init__(self, lookup: PointLookup) -> None:
        self._lookup = lookup
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look up once, and go on in a thread."""
        self.probe()
        self._thread = threading.Thread(target=self._run, name="lookup_probe", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop soon; a look-up under way ends by its own deadline."""
        self._stopping.set()

    def probe(self) -> None:
        """Look up once."""
        before, now = self._lookup.failure, datetime.now(UTC)
        try:
            self._lookup.fetch((), (), now, now)
        except DATABASE_ERRORS as error:
            if str(error) != before:
                log.warning("look-ups fail: %s", error)

    def _run(self) -> None:
        while not self._stopping.wait(PROBE_SECONDS):
            self.probe()
