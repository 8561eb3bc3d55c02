"""The page at /docs, in a real browser that reaches nothing but the service; with keys on it asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bid_assets.serving.api_docs import DESCRIPTION_PATHS
from bid_assets.serving.app import create_app
from bid_assets.serving.middleware.api_keys import create_key
from bid_assets.settings import Settings
from bid_assets_tests.serving.http import run_app


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """Of a service that has keys and no model."""
    settings = Settings(home=tmp_path)
    create_key(settings.resolved_api_keys, "bidder", ["predict"])
    with run_app(create_app(settings), lifespan="off") as running:
        yield running


def test_with_keys_the_page_and_its_files_are_open_and_nothing_else_is(client: httpx.Client) -> None:
    for path in DESCRIPTION_PATHS:
        assert client.get(path).status_code == 200, path
    assert client.post("/predict", json={"profile_id": "p"}).status_code == 401
    assert client.get("/docs-assets/../app.py").status_code == 401


def test_the_page_names_no_other_host(client: httpx.Client) -> None:
    assert "//" not in client.get("/docs").text.replace("// ", "")


def test_the_description_says_how_a_key_is_sent(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["APIKey"]["name"] == "X-API-Key"
    assert {"APIKey": []} in described["security"]


@pytest.mark.browser
def test_a_browser_shows_the_page_and_asks_for_a_key(client: httpx.Client) -> None:
    from playwright.sync_api import expect

    from bid_assets_tests.browser.chromium import chromium, new_page

    url = str(client.base_url).rstrip("/")
    with chromium() as browser, new_page(browser, url) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto("/docs")
        expect(page.get_by_role("button", name="Authorize")).to_be_visible()
        expect(page.get_by_text("/predict/what-if")).to_be_visible()
        assert [each for each in asked if not each.startswith((url, "data:"))] == []
