from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bid_assets.serving import announcement
from bid_assets.serving.announcement import query_service, running_services, service_announcement

REFUSING = {"ready": True, "model_version": "a", "reason": "b was refused: wrong checksum", "refused": {"b": "wrong checksum"}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(json.dumps(REFUSING).encode())

    def log_message(self, *args: object) -> None:
        """Not to the terminal."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_service_is_asked_where_it_has_said_that_it_listens_and_what_it_refuses_is_told(tmp_path: Path, port: int) -> None:
    with service_announcement(tmp_path, "0.0.0.0", port):
        [report] = running_services(tmp_path)
    assert report.url == f"http://127.0.0.1:{port}"
    assert (report.model_version, report.refused, report.error) == ("a", {"b": "wrong checksum"}, None)
    assert running_services(tmp_path) == []


def test_a_service_that_is_silent_is_reported_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcement, "RESPONSE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        report = query_service(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - started < 5
    assert (report.ready, report.error) == (False, "timed out")


def test_nobody_is_asked_for_a_process_that_has_gone_or_a_file_that_is_torn(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "8000.json").write_text('{"url": "http://127.0.0.1:8000", "pid": 4194304}')
    (tmp_path / "services" / "8001.json").write_text('{"url": ')
    assert running_services(tmp_path) == []


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("::1", "http://[::1]:1"), ("box", "http://box:1")],
)
def test_the_address_is_one_that_can_be_reached_from_here(tmp_path: Path, host: str, url: str) -> None:
    with service_announcement(tmp_path, host, 1):
        assert json.loads((tmp_path / "services" / "1.json").read_text())["url"] == url


def test_a_home_in_which_nothing_can_be_written_stops_no_service(tmp_path: Path) -> None:
    (tmp_path / "services").write_text("in the way")
    with service_announcement(tmp_path, "127.0.0.1", 8000):
        assert running_services(tmp_path) == []
