"""A platform behind Dagster's UI, and pages of a real Chromium to look at it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets_tests.browser.chromium import chromium, chromium_path, new_page
from bid_assets_tests.browser.site import Site, site_over


@pytest.fixture(scope="module")
def site(postgres: EmbeddedServer, static_encoder: Path) -> Iterator[Site]:
    """One platform for the tests of a module. It is not even made where no browser could look at it."""
    if chromium_path() is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    folder = Path(tempfile.mkdtemp(prefix="bid_assets_browser-"))
    with site_over(postgres, folder, static_encoder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Browser]:
    """Ended with the module: while Playwright runs, its event loop counts as running in this thread."""
    with chromium() as running:
        yield running


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    with new_page(browser, site.url) as opened:
        yield opened
