"""`bid-assets up`: Dagster's web server and daemon over this folder's code and databases, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from bid_assets.app_db.database import app_db_url, dagster_db_url
from bid_assets.commands.console import console
from bid_assets.instance import dagster_home
from bid_assets.settings import get_settings


def up(host: str, port: int) -> int:
    """Run `dagster dev` with the embedded databases held open; its exit code."""
    home = dagster_home()
    settings = get_settings()
    app_db_url(settings)  # start the embedded server first, so that its errors are the first thing to be read
    dagster_db_url(settings)
    console.print(f"Dagster UI: [link]http://{host}:{port}[/link]   (Ctrl-C stops everything)")
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "-w", str(home / "workspace.yaml")]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would our children
    process = subprocess.Popen(
        [*command, "--host", host, "--port", str(port)],
        cwd=home,
        env={**os.environ, "DAGSTER_HOME": str(home), "BID_ASSETS_HOME": str(settings.home)},
    )
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    while True:
        try:
            return max(process.wait(), 0)
        except KeyboardInterrupt:  # the terminal has told dagster too; wait for it to end its children
            continue
