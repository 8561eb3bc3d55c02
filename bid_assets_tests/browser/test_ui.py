"""What a person sees and does in Dagster's UI, in a real browser. The last test brings news; those before look at a
quiet platform."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from bid_assets.orchestration.assets.common import OWNERS
from bid_assets_tests.browser.pages import boxes_in_groups, launch, metadata, open_graph, open_tick, section, tick
from bid_assets_tests.browser.site import Site
from bid_assets_tests.platforms import EMBEDDINGS, FAMILIES, RAW, RETRAINING_ASSETS

pytestmark = [pytest.mark.slow, pytest.mark.browser]

GROUPS = {
    "raw": (*RAW, "raw_predictions"),
    "features": (*FAMILIES, *EMBEDDINGS),
    "training": (*RETRAINING_ASSETS[:-2], "hyperparameter_search"),
    "serving": RETRAINING_ASSETS[-2:],
}
KINDS = {"raw_bids": "Postgres", "profile_features": "Parquet", "trained_model": "XGBoost", "metrics_report": "json"}


def test_the_graph_draws_every_asset_in_its_group_with_its_kinds(page: Page) -> None:
    open_graph(page)
    drawn = boxes_in_groups(page, list(GROUPS))
    for group, assets in GROUPS.items():
        assert len(drawn[group]) == len(assets), group
        for asset in assets:
            [text] = [text for text in drawn[group] if text.startswith(f"{asset}Latest event")]
            assert KINDS.get(asset, "") in text


def test_a_click_on_an_asset_of_the_graph_shows_its_description_and_its_checks(page: Page) -> None:
    open_graph(page)
    page.get_by_text("training_dataset", exact=True).click()
    expect(page.get_by_text("One row per labelled bid of the look-back")).to_be_visible()
    expect(page.get_by_role("link", name="label_rate_as_before")).to_be_visible()


def test_the_page_of_an_asset_shows_its_description_owners_and_kinds(page: Page) -> None:
    page.goto("/assets/trained_model?view=overview")
    expect(section(page, "Group")).to_contain_text("training")
    expect(section(page, "Owners")).to_contain_text(OWNERS[0].removeprefix("team:"))
    expect(section(page, "Kinds")).to_contain_text("XGBoost")
    expect(page.get_by_role("table")).not_to_have_count(0)


def test_the_page_of_the_model_shows_its_version_its_file_and_its_inputs(site: Site, page: Page) -> None:
    model = site.platform.head("trained_model")
    page.goto("/assets/trained_model?view=overview")
    expect(metadata(page, "version")).to_contain_text(model.version)
    expect(metadata(page, "path")).to_contain_text(f"/trained_model/{model.partition}/{model.version}.joblib")
    expect(metadata(page, "content_hash")).to_contain_text(model.content_hash)
    for ref in model.inputs:
        expect(metadata(page, "inputs_table")).to_contain_text(ref.version)


def test_the_report_shows_its_roc_curve_behind_show_markdown(page: Page) -> None:
    page.goto("/assets/metrics_report?view=overview")
    metadata(page, "roc_curve").get_by_text("[Show Markdown]").click()
    plot = page.get_by_role("dialog").get_by_role("img").last
    expect(plot).to_have_attribute("src", re.compile("^data:image/svg\\+xml;base64,"))
    assert plot.evaluate("image => image.decode().then(() => image.naturalWidth)") > 200


def test_the_metrics_of_the_report_are_plotted_over_windows(page: Page) -> None:
    page.goto("/assets/metrics_report?view=overview")
    page.get_by_role("button", name="Plots").click()
    expect(page.get_by_text("roc_auc", exact=True)).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def test_a_link_to_an_input_leads_to_the_version_that_it_names(site: Site, page: Page) -> None:
    window = site.platform.first_run["windows"][-2]  # not the newest of the asset
    [raw] = site.platform.head("bid_temporal_features", window).inputs
    page.goto(f"/assets/bid_temporal_features?view=partitions&partition={window}")
    metadata(page, "inputs_links").get_by_role("link", name=raw.asset).click()
    expect(metadata(page, "version")).to_contain_text(raw.version, timeout=8_000)


def test_a_window_is_materialised_by_clicking(site: Site, page: Page) -> None:
    asset, window = "bid_temporal_features", site.platform.first_run["windows"][2]
    run = launch(page, asset, window)
    expect(page.get_by_text("Success", exact=True)).to_be_visible(timeout=60_000)
    page.goto(f"/assets/{asset}?view=events")
    page.get_by_text(window).first.click()
    expect(page.get_by_text(f"Partition {window} materialized in run {run[:8]}")).to_be_visible()
    expect(metadata(page, "new_version")).to_contain_text("false")
    expect(metadata(page, "version")).to_contain_text(site.platform.head(asset, window).version)


@pytest.mark.parametrize(
    ("sensor", "cursor", "reason"),
    [
        ("new_outcomes_sensor", "", r"\w+"),
        ("reconciliation_sensor", "", r"\w+"),
        ("retraining_sensor", *["no outcome is new since the last dataset"] * 2),
    ],
)
def test_a_tick_that_asks_for_nothing_says_why(page: Page, sensor: str, cursor: str, reason: str) -> None:
    expect(open_tick(page, sensor, "0 runs requested", cursor)).to_contain_text(re.compile(f"Skip reason: {reason}"))


def test_a_tick_that_asks_for_a_run_shows_the_run_and_its_reason(site: Site, page: Page) -> None:
    site.decide(8)
    asked = tick(page, "new_outcomes_sensor", "1 run requested")
    asked.get_by_role("button", name="View logs").click()
    expect(page.get_by_role("dialog")).to_contain_text("bid_outcomes changed in window")
    retraining = open_tick(page, "retraining_sensor", "1 run requested")
    expect(retraining).to_contain_text("bid_assets/reason: 8 new outcomes since the last dataset")
    expect(retraining.get_by_text("Success")).to_be_visible(timeout=60_000)
