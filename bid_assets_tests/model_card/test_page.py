from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.model_card.page import CardData, describe_maturity, render_html, render_markdown
from bid_assets.modelling.evaluation.charts import nice_ticks
from bid_assets_tests.browser.chromium import chromium, chromium_path
from bid_assets_tests.platforms import Platform, call, small_platform

SECTIONS = ("summary", "decision", "metrics", "confusion", "charts", "slices", "dataset", "lineage", "settings", "limits")
CHARTS = ("ROC", "Precision and recall", "Reliability", "Scores", "Importances", "What moves it (SHAP)")


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, static_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with small_platform(postgres, tmp_path_factory.mktemp("card"), static_encoder) as made:
        call("run", "--cutoff-windows", "2")
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium_path() is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def card(platform: Platform) -> CardData:
    def read(asset: str) -> dict:
        return json.loads(platform.store.fetch(platform.head(asset)).read_bytes())

    return CardData(
        platform.head("trained_model"),
        platform.head("training_dataset"),
        read("metrics_report"),
        read("deployment"),
        importances=[{"feature": "amount", "gain": 2.5}],
    )


def card_without(card: CardData, *keys: str) -> CardData:
    report = copy.deepcopy(dict(card.report))
    for key in keys:
        part, _, last = key.rpartition("/")
        (report[part] if part else report)[last] = None
    return CardData(card.model, card.dataset, report, card.decision, card.importances)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]
        self.found += [tag] if tag in ("script", "link", "iframe") else []


def test_the_page_needs_nothing_else(card: CardData) -> None:
    links = Links()
    links.feed(render_html(card))
    assert links.found == []
    assert "url(" not in render_html(card)


def test_every_metric_stands_beside_its_interval_and_its_baselines(card: CardData) -> None:
    text = render_html(card)
    metrics = card.report["model_metrics"]
    assert f"{metrics['roc_auc']:.4f}" in text
    assert f"{card.report['intervals']['log_loss'][0]:.4f} to" in text
    assert f"{card.report['baselines']['base_rate']['log_loss']:.4f}" in text


def test_what_to_expect_of_the_bids_to_come_stands_beside_what_the_holdout_shows(card: CardData) -> None:
    forecast = card.report["performance_forecast"]["log_loss"]
    row = render_html(card).split("What to expect of the bids to come")[1].split("log loss</th>")[1].split("</tr>")[0]
    assert f"{card.report['model_metrics']['log_loss']:.4f}" in row
    assert f"{forecast['expected']:.4f}" in row
    assert f"{forecast['interval'][0]:.4f} to {forecast['interval'][1]:.4f}" in row
    assert "of the bids to come" in render_markdown(card)


def test_a_report_made_before_it_told_what_to_expect_still_makes_a_card(card: CardData) -> None:
    assert "to come</h3>" not in render_html(card_without(card, "performance_forecast"))


def test_the_dataset_says_whether_its_label_maturity_was_set_or_learnt(card: CardData) -> None:
    assert describe_maturity(card.dataset.info) == "7 days, as set"
    assert describe_maturity({"label_maturity_days": 34.0, "label_maturity_origin": "estimated from the delays"}).endswith(
        "estimated from the delays"
    )
    assert describe_maturity({"label_maturity_days": 14.0}) == "14 days"
    assert describe_maturity(card.dataset.info) in render_html(card)


def test_the_largest_gain_is_the_uppermost_bar(card: CardData) -> None:
    rows = [{"feature": "little", "gain": 1.0}, {"feature": "much", "gain": 9.0}]
    text = render_html(replace(card, importances=rows))
    assert text.index(">much<") < text.index(">little<")


def test_what_was_not_measured_is_absent_and_not_nought(card: CardData) -> None:
    nothing = ("model_metrics/roc_auc", "intervals/roc_auc", "curves/roc", "model_metrics/precision")
    text = render_html(card_without(card, *nothing))
    row = text[text.index("ROC AUC</th><td") :].split("</tr>")[0]
    assert row.count("–") >= 2
    assert "0.0000" not in row.split("</td>")[0]
    assert "<h3>ROC</h3>" not in text


def test_words_from_data_are_escaped(card: CardData) -> None:
    report = copy.deepcopy(dict(card.report))
    report["slices"][0]["value"] = "<script>alert(1)</script>"
    text = render_html(CardData(card.model, card.dataset, report, card.decision, [{"feature": "<b>x", "gain": 1.0}]))
    assert "<script>" not in text
    assert "<b>" not in text


def test_the_command_gives_the_card_of_the_active_model_or_of_a_window(platform: Platform, tmp_path: Path) -> None:
    path = Path(call("report").output.strip())
    assert path.name.startswith("model_card_")
    assert platform.head("trained_model").version in path.read_text()
    copied = tmp_path / "card.html"
    call("report", "--partition", platform.first_run["windows"][-2], "--output", str(copied))
    assert platform.head("trained_model", platform.first_run["windows"][-2]).version in copied.read_text()


def test_a_card_is_traced_to_the_reports_that_it_draws_and_can_be_rebuilt(platform: Platform) -> None:
    head = platform.head("model_card")
    assert {ref.partition for ref in head.inputs if ref.asset == "metrics_report"} == set(platform.first_run["windows"][-2:])
    call("rebuild", "model_card", "--partition", head.partition, "--version", head.version)


def test_an_unknown_model_has_no_card_and_the_message_says_where_models_are_listed(platform: Platform) -> None:
    refused = call("report", "trained_model_x", fails=1).stderr
    assert "the store has no trained_model trained_model_x" in refused
    assert "bid-assets versions trained_model" in refused


LONG = "job_required_skills=a skill whose name goes on for as long as somebody has typed"
CUT_TEXTS = """svg => {
  return [...svg.querySelectorAll("text")].filter(text => {
    const at = text.getBoundingClientRect(), all = svg.getBoundingClientRect();
    return at.left < all.left - 1 || at.right > all.right + 1 || at.top < all.top - 1 || at.bottom > all.bottom + 1;
  }).map(text => text.textContent);
}"""


def opened(browser: Browser, text: str, folder: Path, width: int) -> Any:
    (folder / "card.html").write_text(text)
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto((folder / "card.html").as_uri())
    return tab


def test_no_label_of_a_chart_is_cut(card: CardData, browser: Browser, tmp_path: Path) -> None:
    metrics = {"roc_auc": 0.7, "log_loss": 0.5, "calibration_error": 0.02}
    earlier = [(f"2026-01-{day:02}", metrics) for day in range(1, 28)]
    rows = [{"feature": LONG, "gain": 123456.0}, *({"feature": f"feature {n}", "gain": float(n)} for n in range(20))]
    tab = opened(browser, render_html(replace(card, importances=rows, earlier=earlier)), tmp_path, 1280)
    assert LONG in tab.locator("figure svg").all_text_contents()[4]
    for chart in tab.locator("figure svg").all():
        assert chart.evaluate(CUT_TEXTS) == []
    tab.close()


@pytest.mark.parametrize(("medium", "width"), [("screen", 1280), ("print", 720)])
def test_no_table_is_cut_on_a_screen_or_on_paper(
    card: CardData, browser: Browser, tmp_path: Path, medium: Any, width: int
) -> None:
    tab = opened(browser, render_html(card), tmp_path, width)
    tab.emulate_media(media=medium)
    cut = tab.locator(".wide").evaluate_all(
        "all => all.filter(each => each.scrollWidth > each.clientWidth).map(each => each.innerText)"
    )
    assert cut == []
    tab.close()


def test_no_name_of_a_row_is_broken_in_two(card: CardData, browser: Browser, tmp_path: Path) -> None:
    tab = opened(browser, render_html(card), tmp_path, 1280)
    lines = (
        "each => { const text = document.createRange(); text.selectNodeContents(each); return text.getClientRects().length }"
    )
    names = [each for each in tab.locator("tbody th").all() if " " not in each.inner_text()]
    assert [each.inner_text() for each in names if each.evaluate(lines) > 1] == []
    tab.close()


def test_the_legend_names_nothing_that_is_not_drawn(card: CardData) -> None:
    report = copy.deepcopy(dict(card.report))
    report["curves"]["calibration_before"] = report["curves"]["calibration"]  # nothing was corrected
    report["curves"]["scores"]["successes"] = [0] * len(report["curves"]["scores"]["failures"])
    text = render_html(replace(card, report=report))
    assert "before calibration" not in text
    assert ">successes</text>" not in text
    assert ">failures</text>" in text


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))
def test_law_ticks_are_few_nice_numbers_that_span_the_range(low: float, length: float) -> None:
    ticks = nice_ticks(low, low + length)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= low + length - 1e-6 * step
    leading = step / 10 ** np.floor(np.log10(step) + 1e-9)
    assert min(abs(leading - nice) for nice in (1, 2, 2.5, 5, 10)) < 1e-3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 60, [0, 20, 40, 60]),
        (0.6931, 0.7212, [0.69, 0.7, 0.71, 0.72, 0.73]),
        (5, 5, [5.0, 5.1]),
    ],
)
def test_ticks_are_numbers_that_people_would_choose(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_of_it_without_complaint_and_without_scrolling_sideways(
    platform: Platform, browser: Browser, width: int
) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("requestfailed", lambda request: complaints.append(request.url))
    opened.goto(platform.store.fetch(platform.head("model_card")).absolute().as_uri())
    for section in SECTIONS:
        assert opened.locator(f"section#{section}").is_visible(), section
    titles = opened.locator("figure h3").all_inner_texts()
    assert set(CHARTS) <= set(titles)
    assert "ROC AUC over the last windows" in titles
    for chart in opened.locator("figure svg").all():
        box = chart.bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 20
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    opened.close()
