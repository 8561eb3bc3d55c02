"""What a person does on the pages of Dagster's UI, and what is to be seen there."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

_BOXES = """() => [...document.querySelectorAll('foreignObject')].map(box => {
    const {left, right, top, bottom} = box.getBoundingClientRect();
    return {text: box.textContent, left, right, top, bottom};
})"""

_ALL_DRAWN = """groups => {
    const texts = [...document.querySelectorAll('foreignObject')].map(box => box.textContent);
    return groups.every(group => texts.includes(group));
}"""


def open_graph(page: Page) -> None:
    """The global lineage with all groups expanded, and everything about each asset loaded."""
    page.goto("/asset-groups")
    expect(page.get_by_role("img", name="unfold_more").first).to_be_visible()
    page.keyboard.press("Alt+KeyE")  # "Expand all groups"
    expect(page.get_by_role("img", name="unfold_less").first).to_be_visible()
    expect(page.get_by_text("Partitions", exact=True).first).to_be_visible()
    expect(page.get_by_text("Loading...", exact=True)).to_have_count(0)


def boxes_in_groups(page: Page, groups: list[str]) -> dict[str, list[str]]:
    """Group -> the texts of the assets drawn inside its box, once all are laid out."""
    page.wait_for_function(_ALL_DRAWN, arg=groups)
    boxes: list[dict[str, Any]] = [box for box in page.evaluate(_BOXES) if box["text"]]
    inside: dict[str, list[str]] = {}
    for group in groups:
        [frame] = [box for box in boxes if box["text"] == group]
        inside[group] = [box["text"] for box in boxes if box is not frame and _within(box, frame)]
    return inside


def metadata(page: Page, key: str) -> Locator:
    """The row of a key in the metadata of an asset's page."""
    return page.get_by_role("row").filter(has=page.get_by_role("cell", name=key, exact=True)).last


def section(page: Page, title: str) -> Locator:
    """A part of an asset's definition, say Owners: its title and what it says."""
    return page.get_by_text(title, exact=True).locator("xpath=..")


def launch(page: Page, asset: str, window: str) -> str:
    """Materialise one window by clicking; ends on the page of the run. Its id."""
    page.goto(f"/assets/{asset}")
    page.get_by_role("button", name="Materialize…").click()
    partitions = page.get_by_placeholder("No matching partitions")
    partitions.fill(window)
    partitions.press("Enter")
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_role("listitem").filter(has_text="Launched run").get_by_text("View").click()
    page.wait_for_url("**/runs/*")
    return page.url.rsplit("/", 1)[-1]


def tick(page: Page, sensor: str, asked: str, saying: str = "") -> Locator:
    """The newest tick on a sensor's page that has `asked`, such as "0 runs requested", and whose cursor says this; once
    there is one."""
    page.goto(f"/locations/bid_assets/sensors/{sensor}")
    row = page.get_by_role("row").filter(has_text=asked).filter(has_text=saying).filter(has_text="View logs").first
    expect(row).to_be_visible(timeout=60_000)
    return row


def open_tick(page: Page, sensor: str, asked: str, saying: str = "") -> Locator:
    """The details of that tick."""
    tick(page, sensor, asked, saying).get_by_text(asked).last.click()
    details = page.get_by_role("dialog")
    expect(details.get_by_text(f"Tick for {sensor}")).to_be_visible()
    return details


def _within(box: dict[str, Any], frame: dict[str, Any]) -> bool:
    return bool(
        frame["left"] < box["left"]
        and box["right"] < frame["right"]
        and frame["top"] < box["top"]
        and box["bottom"] < frame["bottom"]
    )
