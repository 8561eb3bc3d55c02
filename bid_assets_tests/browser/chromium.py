"""The system's Chromium, driven by Playwright; nothing is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE_MS = 60_000
"""How long a page may take to show what is looked for; it is the slowest moment of two busy cores."""


def chromium_path() -> str | None:
    """Where the system's Chromium is; None where there is none."""
    return shutil.which("chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium, without a window and, since tests may run as root, without its sandbox."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, url: str, width: int = 2600, height: int = 2100) -> Iterator[Page]:
    """A page in a context of its own; addresses are relative to `url`.

    At the default size the whole graph, which Dagster fits to the width of the page only, is in sight and legible.
    """
    context = browser.new_context(base_url=url, viewport={"width": width, "height": height}, timezone_id="UTC", locale="en-US")
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()
