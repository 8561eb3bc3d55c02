"""Hot reload of a running service: by the deployment history, without a restart, a lost request or a mixed response."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest

from bid_assets.app_db.database import prediction_db_url
from bid_assets.deployments.events import LOG, POINTER, Action, Event, active_model, append_event, read_history
from bid_assets.version_store.manifest import InputRef
from bid_assets_tests.loops import eventually
from bid_assets_tests.platforms import Platform, call, make
from bid_assets_tests.serving.servers import Server, bids_of, serving

pytestmark = pytest.mark.slow

SWAPS = 100


@pytest.fixture(scope="module")
def first(platform: Platform) -> InputRef:
    """The model that is active."""
    return platform.active_model


@pytest.fixture(scope="module")
def second(platform: Platform, first: InputRef) -> InputRef:
    """Another one, that has never served."""
    assert make(platform, ["trained_model"], platform.window, trained_model={"seed": 1}).succeeded
    return platform.head("trained_model").ref


@pytest.fixture(scope="module")
def server(platform: Platform, first: InputRef, second: InputRef) -> Iterator[Server]:
    with serving(platform) as running:
        yield running


@pytest.fixture(autouse=True)
def back_to_the_first(platform: Platform, first: InputRef) -> Iterator[None]:
    yield
    active = active_model(platform.store)
    if active is not None and active.model != first:
        activate(platform, first)


def activate(platform: Platform, model: InputRef) -> None:
    append_event(platform.store, read_history(platform.store), Event(Action.ACTIVATED, model, "test", "to see it swapped"))


def test_without_a_model_it_says_so_and_picks_the_first_one_up(platform: Platform, first: InputRef, tmp_path: Path) -> None:
    store = Path(platform.settings.resolved_store_url)
    for name in (LOG, POINTER):
        (store / name).rename(tmp_path / name)
    with serving(platform, ready=False) as server:
        try:
            told = server.get("/ready", status=503)
            assert (told["ready"], told["reason"]) == (False, "no model is active yet")
            assert server.post("/predict", {"profile_id": "p"}, status=503)["error"]["message"] == "no model is active yet"
            assert server.get("/health") == {"status": "alive"}
        finally:
            for name in (LOG, POINTER):
                (tmp_path / name).rename(store / name)
        server.wait_until_serving(first.version)
        assert server.post("/predict", {"profile_id": "p"})["model_version"] == first.version


def test_a_new_active_model_answers_without_being_told(
    server: Server, platform: Platform, first: InputRef, second: InputRef
) -> None:
    server.wait_until_serving(first.version)
    activate(platform, second)
    server.wait_until_serving(second.version)
    assert server.post("/predict", {"profile_id": "p"})["model_version"] == second.version
    call("rollback", "--reason", "to see it")
    server.wait_until_serving(first.version)
    assert server.post("/predict", {"profile_id": "p"})["model_version"] == first.version


def test_reload_swaps_at_once(server: Server, platform: Platform, first: InputRef, second: InputRef) -> None:
    activate(platform, second)
    assert server.post("/reload", None)["model_version"] == second.version
    assert server.post("/predict", {"profile_id": "p"})["model_version"] == second.version


def test_a_damaged_model_is_refused_and_the_old_one_stays(
    server: Server, platform: Platform, first: InputRef, second: InputRef
) -> None:
    server.wait_until_serving(first.version)
    file = platform.store.fetch(platform.store.manifest(second.asset, second.partition, second.version))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        activate(platform, second)
        refused = server.post("/reload", None, status=409)["error"]
        assert file.name in refused["message"]
        assert server.post("/predict", {"profile_id": "p"})["model_version"] == first.version
        told = server.get("/ready")
        assert (told["ready"], told["model_version"], told["wanted"]) == (True, first.version, second.version)
        assert "SHA-256" in told["refused"][second.version]
        assert "bid_assets_models_refused 1.0" in server.http.get("/metrics").text
    finally:
        file.write_bytes(content)
    assert server.post("/reload", None)["model_version"] == second.version


def test_a_canary_answers_for_its_share_of_the_profiles_and_always_for_the_same(
    server: Server, second: InputRef, first: InputRef
) -> None:
    call("deployments", "canary", second.version, "--share", "0.3", "--reason", "to see it")
    server.post("/reload", None)
    bids = [{"profile_id": f"profile {number}"} for number in range(300)]
    rounds = [server.post("/predict/batch", {"bids": bids})["predictions"] for _ in range(2)]
    who = [[(answer["variant"], answer["model_version"]) for answer in answers] for answers in rounds]
    assert who[0] == who[1]
    assert set(who[0]) == {("active", first.version), ("canary", second.version)}
    assert 0.2 < sum(variant == "canary" for variant, _ in who[0]) / len(bids) < 0.4
    call("deployments", "end", second.version, "--reason", "seen")
    server.post("/reload", None)
    assert {answer["variant"] for answer in server.post("/predict/batch", {"bids": bids})["predictions"]} == {"active"}


def test_a_shadow_scores_everything_and_answers_nothing(
    server: Server, platform: Platform, first: InputRef, second: InputRef
) -> None:
    call("deployments", "shadow", second.version, "--reason", "to see it")
    server.post("/reload", None)
    answer = server.post("/predict", bids_of(platform, 1)[0])
    assert (answer["variant"], answer["model_version"]) == ("active", first.version)
    query = "select id, variant, model from bid_assets.predictions where id like %s order by id"
    with psycopg2.connect(prediction_db_url(platform.settings)) as connection, connection.cursor() as cursor:

        def logged() -> list[Any]:
            cursor.execute(query, (f"{answer['prediction_id']}%",))
            return cursor.fetchall()

        rows = eventually(lambda: found if len(found := logged()) == 2 else None, what="both predictions in the log")
    connection.close()
    assert rows[0] == (answer["prediction_id"], "active", first.version)
    assert rows[1][1:] == ("shadow", second.version)
    call("deployments", "end", second.version, "--reason", "seen")
    server.post("/reload", None)


def test_a_hundred_swaps_under_load_lose_no_request_and_mix_no_versions(
    server: Server, platform: Platform, first: InputRef, second: InputRef
) -> None:
    bids = bids_of(platform, 8)
    expected: dict[str, list[float]] = {}
    for model in (second, first):
        activate(platform, model)
        assert server.post("/reload", None)["model_version"] == model.version
        answers = server.post("/predict/batch", {"bids": bids})["predictions"]
        expected[model.version] = [answer["probability"] for answer in answers]
    assert expected[first.version] != expected[second.version]
    statuses, versions = asyncio.run(_load_and_swap(server, platform, [second, first] * (SWAPS // 2), bids, expected))
    assert set(statuses) == {200}
    assert len(statuses) > SWAPS
    assert versions == {first.version, second.version}


async def _load_and_swap(
    server: Server, platform: Platform, models: list[InputRef], bids: list[dict[str, Any]], expected: dict[str, list[float]]
) -> tuple[list[int], set[str]]:
    """Ask without a pause while the models take turns; each answer must be, whole, what one of the versions says."""
    swapping, statuses, versions = True, [], set()

    async def ask(http: httpx.AsyncClient) -> None:
        while swapping:
            answer = await http.post("/predict/batch", json={"bids": bids})
            statuses.append(answer.status_code)
            predictions = answer.json()["predictions"]
            [version] = {each["model_version"] for each in predictions}
            assert [each["probability"] for each in predictions] == expected[version]
            versions.add(version)

    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        asking = [asyncio.create_task(ask(http)) for _ in range(3)]
        for model in models:
            activate(platform, model)
            swapped = await http.post("/reload")
            assert swapped.json()["model_version"] == model.version
            await asyncio.sleep(random.random() / 50)
        swapping = False
        await asyncio.gather(*asking)
    return statuses, versions
