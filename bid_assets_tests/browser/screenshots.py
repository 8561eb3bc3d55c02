"""Makes the pictures in docs/ anew: `python -m bid_assets_tests.browser.screenshots`. Not part of the tests."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from bid_assets.embedded_postgres.server import shared_server
from bid_assets.features.embeddings.model_files import static_model_folder
from bid_assets_tests.browser.chromium import chromium, new_page
from bid_assets_tests.browser.pages import metadata, open_graph, open_tick, tick
from bid_assets_tests.browser.site import Site, site_over
from bid_assets_tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"


def main() -> None:
    """A small platform of its own, and one picture after the other."""
    folder = Path(tempfile.mkdtemp(prefix="bid_assets_screenshots-"))
    folder.chmod(0o755)  # the database's user must be able to enter it
    postgres = shared_server(folder / "postgres", durable=False)
    try:
        with (
            site_over(postgres, folder, static_model_folder(CHECKOUT / ".bid_assets" / "tests")) as site,
            chromium() as browser,
        ):
            report(site, browser)
            ticks(site, browser)
            graph(site, browser)
    finally:
        postgres.release()
        shutil.rmtree(folder, ignore_errors=True)


def report(site: Site, browser: Browser) -> None:
    """The page of `metrics_report` with its ROC curve open."""
    with new_page(browser, site.url, 1500, 900) as page:
        page.goto("/assets/metrics_report?view=overview")
        metadata(page, "roc_curve").get_by_text("[Show Markdown]").click()
        expect(page.get_by_role("dialog").get_by_role("img").last).to_be_visible()
        save(page, "metrics_report.png")


def ticks(site: Site, browser: Browser) -> None:
    """The ticks of `retraining_sensor` after outcomes have landed, and the one that asked for a run."""
    site.decide(8)
    with new_page(browser, site.url, 1500, 900) as page:
        details = open_tick(page, "retraining_sensor", "1 run requested")
        expect(details.get_by_text("Success")).to_be_visible(timeout=120_000)
        save(page, "retraining_run.png")
        tick(page, "retraining_sensor", "1 run requested")
        save(page, "retraining_sensor.png")


def graph(site: Site, browser: Browser) -> None:
    """The whole asset graph, without what stands beside it."""
    with new_page(browser, site.url, 2400, 2700) as page:
        page.goto("/asset-groups")
        page.get_by_text("Hide navigation").click()
        open_graph(page)
        save(page, "asset_graph.png")


def save(page: Page, name: str) -> None:
    """A picture of few colours, which keeps it small."""
    page.mouse.move(0, 0)
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.quantize(128).save(DOCS / name, optimize=True)
    print(DOCS / name)


if __name__ == "__main__":
    main()
