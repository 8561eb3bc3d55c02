"""A prediction service as a user starts it, `bid-assets serve`, and how tests talk to it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.loops import eventually, free_port
from bid_assets_tests.platforms import Platform

START_PATIENCE = 90.0


@dataclass
class Server:
    """A running service; its settings are those of the environment."""

    process: subprocess.Popen[bytes]
    http: httpx.Client
    log: Path

    @property
    def url(self) -> str:
        return str(self.http.base_url)

    def post(self, path: str, value: Any, status: int = 200, **more: Any) -> Any:
        answer = self.http.post(path, json=value, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def wait_until_serving(self, model_version: str) -> None:
        """Wait until this version answers."""
        eventually(lambda: self.http.get("/ready").json()["model_version"] == model_version, what=f"{model_version} to serve")

    def stop(self) -> int:
        """As an orchestrator does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(platform: Platform, *options: str, ready: bool = True) -> Iterator[Server]:
    """The service over a platform. `ready`: wait until a model is loaded, not only until it answers."""
    port, log = free_port(), platform.settings.home / "serve.log"
    with log.open("ab") as output:
        program = [str(Path(sys.executable).with_name("bid-assets")), "serve", "--port", str(port), *options]
        process = subprocess.Popen(program, cwd=CHECKOUT, start_new_session=True, stdout=output, stderr=output)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        server = Server(process, http, log)
        try:
            _wait(server, "/ready" if ready else "/health")
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def bids_of(platform: Platform, count: int) -> list[dict[str, Any]]:
    """Past bids, as a caller would ask about them at the time when they were made."""
    rows: pa.Table = platform.rows("raw_bids").slice(0, count)
    return [
        {
            "profile_id": bid["profile_id"],
            "job_id": bid["job_id"],
            "bid_text": bid["generated_bid_text"],
            "amount": bid["amount"],
            "settings": bid["bid_settings_snapshot"],
            "at": bid["submitted_at"].isoformat(),
            "bid_id": bid["id"],
        }
        for bid in rows.to_pylist()
    ]


def _wait(server: Server, path: str) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while True:
        assert server.process.poll() is None, f"`bid-assets serve` ended: {server.log.read_text()}"
        try:
            if server.http.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"`bid-assets serve` did not answer: {server.log.read_text()}"
        time.sleep(0.1)
