"""A platform with its web server and daemon, as `bid-assets up` starts them, for a browser to look at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.orchestration.liveness import code_is_loaded
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.loops import free_port
from bid_assets_tests.platforms import Platform, execute, small_platform

START_PATIENCE, STOP_PATIENCE = 90.0, 40.0

QUICK = {
    "SENSOR_INTERVAL_SECONDS": 5,
    "RECONCILIATION_INTERVAL_MINUTES": 0.1,
    "RETRAIN_MIN_NEW_OUTCOMES": 5,
    "RETRAIN_MIN_INTERVAL_MINUTES": 0,
}
"""Sensors that tick at once, and a policy that a handful of outcomes satisfies."""


@dataclass
class Site:
    """Dagster's UI over a platform."""

    platform: Platform
    url: str

    def decide(self, count: int) -> None:
        """So many bids without an outcome get one now, by plain SQL, as the application would write it."""
        assert self.platform.settings.app_db_url is not None
        execute(
            self.platform.settings.app_db_url,
            "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) "
            "select 'seen-' || b.id, b.id, true, now() from bids b join profiles p on p.id = b.profile_id "
            "where b.amount > 0 and b.submitted_at < now() - interval '1 day' "
            "and not exists (select from bid_outcomes o where o.bid_id = b.id) "
            f"order by b.submitted_at desc limit {count}",
        )


@contextmanager
def site_over(postgres: EmbeddedServer, folder: Path, static_encoder: Path) -> Iterator[Site]:
    """A small platform and, on a free port, its UI with sensors ticking; everything is stopped at the end."""
    with small_platform(postgres, folder, static_encoder, **QUICK) as platform:
        port = free_port()
        log = platform.settings.home / "up.txt"
        with log.open("wb") as output:
            # A group of its own, so that nothing of it can be left over; `up` resets the signals itself.
            process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("bid-assets")),
                    "up",
                    "--port",
                    str(port),
                    "--service-port",
                    str(free_port()),
                ],
                cwd=CHECKOUT,
                start_new_session=True,
                stdout=output,
                stderr=output,
            )
        try:
            _wait_until_it_answers(process, port, log)
            yield Site(platform, f"http://127.0.0.1:{port}")
        finally:
            _stop(process)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while not code_is_loaded(f"127.0.0.1:{port}"):
        assert process.poll() is None, f"`bid-assets up` ended: {log.read_text()}"
        assert time.monotonic() < deadline, f"`bid-assets up` did not answer within {START_PATIENCE} s: {log.read_text()}"
        time.sleep(0.2)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
