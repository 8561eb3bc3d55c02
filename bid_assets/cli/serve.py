"""`bid-assets serve`: the prediction service behind uvicorn, in one process or several."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from bid_assets.app_db.database import app_db_url
from bid_assets.cli.listening import require_free_port, stopping_on_signals
from bid_assets.serving.announcement import service_announcement
from bid_assets.serving.middleware.api_keys import KEYS_REQUIRED, ApiKeyStore, require_keys_off_loopback
from bid_assets.settings import get_settings

GRACE_SECONDS = 10
"""How long requests may go on after SIGTERM."""
PROMETHEUS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client lets several processes keep what they count."""


def serve(host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that are under way are answered, and the prediction log is written."""
    import uvicorn

    from bid_assets.serving.connections import BoundedConnection

    settings = get_settings()
    require_free_port(host, port)
    key_store = ApiKeyStore(settings.resolved_api_keys)
    require_keys_off_loopback(host, key_store)
    if key_store.enabled:
        os.environ[KEYS_REQUIRED] = "1"
    app_db_url(settings)  # so that errors of the database are read here, once, and not in every worker
    # uvicorn raises the signal again that has ended it; taken as Ctrl-C, all that is open is closed before the process ends
    with (
        stopping_on_signals(),
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="bid_assets-") as prometheus_dir,
        service_announcement(settings.home, host, port),
    ):
        if workers > 1:
            os.environ[PROMETHEUS_DIR_VARIABLE] = prometheus_dir
        uvicorn.run(
            "bid_assets.serving.app:from_environment",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http=BoundedConnection,
            ws="none",
            access_log=False,
            log_level="info",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
