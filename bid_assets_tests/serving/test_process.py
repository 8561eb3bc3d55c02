"""The service as a process: what it remembers when it is stopped, and several workers."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import psutil
import psycopg2
import pytest

from bid_assets.app_db.database import prediction_db_url
from bid_assets.serving.middleware.api_keys import create_key, marker_path
from bid_assets_tests.loops import eventually
from bid_assets_tests.platforms import Platform, call
from bid_assets_tests.serving.servers import Server, bids_of, serving

pytestmark = pytest.mark.slow


def logged_ids(platform: Platform) -> set[str]:
    with psycopg2.connect(prediction_db_url(platform.settings)) as connection, connection.cursor() as cursor:
        cursor.execute("select id from bid_assets.predictions")
        return {str(row[0]) for row in cursor.fetchall()}


def ask_until_it_is_gone(url: str, bid: dict[str, Any], answered: list[str]) -> None:
    with httpx.Client(base_url=url, timeout=30) as http:
        while True:
            try:
                answer = http.post("/predict", json=bid)
            except httpx.TransportError:
                return
            answered.append(answer.json()["prediction_id"])


def test_sigterm_under_load_loses_no_prediction_that_was_answered(platform: Platform) -> None:
    answered: list[str] = []
    with serving(platform) as server:
        bids = bids_of(platform, 3)
        asking = [threading.Thread(target=ask_until_it_is_gone, args=(server.url, bid, answered)) for bid in bids]
        for thread in asking:
            thread.start()
        while len(answered) < 30:
            asking[0].join(0.05)
        assert server.stop() == 0
        for thread in asking:
            thread.join(30)
    assert len(answered) >= 30
    assert set(answered) <= logged_ids(platform)


def test_several_workers_answer_and_count_as_one(platform: Platform) -> None:
    with serving(platform, "--workers", "2") as server:
        bid = bids_of(platform, 1)[0]
        before = {(answer := server.post("/predict", bid))["model_version"], answer["probability"]}
        for _ in range(20):
            answer = httpx.post(f"{server.url}/predict", json=bid).json()  # a connection of its own each time
            assert {answer["model_version"], answer["probability"]} == before
        counted = server.http.get("/metrics").text
        assert 'bid_assets_request_seconds_count{path="/predict",status="2xx"} 21.0' in counted
        assert server.stop() == 0


def test_a_worker_that_is_started_anew_without_the_keys_lets_nobody_in(platform: Platform) -> None:
    path = platform.settings.resolved_api_keys
    create_key(path, "bidder", ["predict"])
    try:
        with serving(platform, "--workers", "2") as server:
            path.unlink()
            marker_path(path).unlink()
            before = workers_of(server)
            for worker in before:
                worker.kill()
            eventually(lambda: len(set(workers_of(server)) - set(before)) == 2, what="two new workers")
            seen = [eventually(lambda: status_of(server), what="an answer") for _ in range(10)]
            assert seen == [401] * 10
    finally:
        path.unlink(missing_ok=True)
        marker_path(path).unlink(missing_ok=True)


def workers_of(server: Server) -> list[psutil.Process]:
    alive = [child for child in psutil.Process(server.process.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    return [each for each in alive if "spawn_main" in " ".join(each.cmdline())]


def status_of(server: Server) -> int | None:
    try:
        return httpx.post(f"{server.url}/predict", json={"profile_id": "p"}, timeout=10).status_code
    except httpx.TransportError:
        return None


def test_it_refuses_to_listen_where_others_could_ask_without_a_key(platform: Platform) -> None:
    refused = call("serve", "--host", "0.0.0.0", fails=1)
    assert "bid-assets keys create" in refused.stderr
