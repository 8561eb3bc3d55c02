"""What the service says while look-ups fail, and that it goes on by itself when they work again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from bid_assets.serving.app import create_app
from bid_assets_tests.app_db.database import execute
from bid_assets_tests.loops import eventually
from bid_assets_tests.platforms import Platform
from bid_assets_tests.proxies import Proxy, proxy_to
from bid_assets_tests.serving.servers import bids_of

LIMIT = 0.7


@pytest.fixture(scope="module")
def proxy(platform: Platform) -> Iterator[Proxy]:
    with proxy_to(str(platform.settings.app_db_url)) as made:
        yield made


@pytest.fixture(scope="module")
def client(platform: Platform, proxy: Proxy) -> Iterator[TestClient]:
    changes = {"app_db_url": proxy.url, "serving_lookup_seconds": LIMIT}
    with TestClient(create_app(platform.settings.model_copy(update=changes))) as client:
        yield client


@pytest.fixture(scope="module")
def bid(platform: Platform) -> dict[str, Any]:
    [one] = bids_of(platform, 1)
    return one


def is_ready(client: TestClient) -> bool:
    return bool(client.get("/ready").json()["ready"])


def test_silent_connections_cost_one_deadline_and_then_fresh_ones_answer(
    client: TestClient, proxy: Proxy, bid: dict[str, Any]
) -> None:
    assert client.post("/predict", json=bid).status_code == 200
    proxy.swallow()
    started = time.monotonic()
    assert client.post("/predict", json=bid).status_code == 200
    assert time.monotonic() - started < 6


def test_while_the_database_is_silent_it_says_503_is_not_ready_and_comes_back_by_itself(
    client: TestClient, proxy: Proxy, bid: dict[str, Any]
) -> None:
    proxy.swallow(new_ones_too=True)
    started = time.monotonic()
    answer = client.post("/predict", json=bid)
    assert time.monotonic() - started < 9
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database")
    told = client.get("/ready")
    assert told.status_code == 503
    assert "look-ups fail" in told.json()["reason"]
    proxy.recover()
    eventually(lambda: is_ready(client), what="look-ups to work again")
    assert client.post("/predict", json=bid).status_code == 200


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("alter table bids rename column amount to price", "alter table bids rename column price to amount"),
        ("alter table profiles drop column skills", "alter table profiles add column skills text"),
        (
            "alter table profiles alter column skills type text[] using array[skills]",
            "alter table profiles alter column skills type text using skills[1]",
        ),
        (
            "alter table jobs rename to jobs_old; create table jobs (like jobs_old including all); "
            "insert into jobs select * from jobs_old",
            "drop table jobs; alter table jobs_old rename to jobs",
        ),
    ],
)
def test_a_migration_of_what_is_optional_leaves_every_request_an_answer(
    client: TestClient, platform: Platform, bid: dict[str, Any], change: str, back: str
) -> None:
    url = str(platform.settings.app_db_url)
    for statement in (change, back):
        execute(url, statement)
        for _ in range(3):
            assert client.post("/predict", json=bid).status_code == 200
    assert is_ready(client)


@pytest.mark.parametrize(
    ("change", "back", "named"),
    [
        (
            "alter table bids rename column submitted_at to sent_at",
            "alter table bids rename column sent_at to submitted_at",
            "submitted_at",
        ),
        ("alter table profiles rename to people", "alter table people rename to profiles", "profiles"),
        (
            "alter table bid_outcomes alter column is_success type text using is_success::text",
            "alter table bid_outcomes alter column is_success type boolean using is_success::boolean",
            "is_success",
        ),
    ],
)
def test_a_migration_of_what_is_required_is_503_by_name_until_it_is_taken_back(
    client: TestClient, platform: Platform, bid: dict[str, Any], change: str, back: str, named: str
) -> None:
    url = str(platform.settings.app_db_url)
    execute(url, change)
    answer = client.post("/predict", json=bid)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database")
    assert named in answer.json()["error"]["message"]
    assert named in client.get("/ready").json()["reason"]
    execute(url, back)
    assert client.post("/predict", json=bid).status_code == 200
    assert is_ready(client)


def test_a_right_that_is_taken_away_is_503_that_names_the_table_and_heals(platform: Platform, bid: dict[str, Any]) -> None:
    url = str(platform.settings.app_db_url)
    execute(url, "drop role if exists reader; create role reader login")
    execute(url, "grant select on profiles, jobs, bids, bid_outcomes to reader")
    settings = platform.settings.model_copy(update={"app_db_url": url.replace("postgres@", "reader@", 1)})
    try:
        with TestClient(create_app(settings)) as client:
            assert client.post("/predict", json=bid).status_code == 200
            execute(url, "revoke select on bids from reader")
            answer = client.post("/predict", json=bid)
            assert answer.status_code == 503
            assert "bids" in answer.json()["error"]["message"]
            execute(url, "grant select on bids to reader")
            assert client.post("/predict", json=bid).status_code == 200
    finally:
        execute(url, "drop owned by reader; drop role reader")


def test_a_query_that_takes_too_long_is_503_within_the_deadline(
    client: TestClient, platform: Platform, bid: dict[str, Any]
) -> None:
    url = str(platform.settings.app_db_url)
    execute(
        url,
        "alter table profiles rename to profiles_table;"
        "create view profiles as select p.*, null::text as slow from profiles_table p where pg_sleep(2) is not null",
    )
    try:
        started = time.monotonic()
        answer = client.post("/predict", json=bid)
        assert answer.status_code == 503
        assert "SERVING_LOOKUP_SECONDS" in answer.json()["error"]["message"]
        assert time.monotonic() - started < 6
    finally:
        execute(url, "drop view profiles; alter table profiles_table rename to profiles")
    eventually(lambda: is_ready(client), what="look-ups to work again")
