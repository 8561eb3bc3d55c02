from __future__ import annotations

from datetime import timedelta

import pytest

from bid_assets.app_db import contract
from bid_assets.features.temporal import FAMILY
from bid_assets.windows import TimeRange
from bid_assets_tests.features.tables import START, at, table_of


def features(**bid: object) -> dict[str, object]:
    bids = table_of(contract.RAW_BIDS, [{"id": "b", "profile_id": "p", "job_id": "j", "submitted_at": START, **bid}])
    [row] = FAMILY.compute({"raw_bids": bids}, TimeRange(START, START + timedelta(weeks=1)), None).to_pylist()
    return dict(row)


def test_the_clock_is_utc_and_weeks_start_on_monday() -> None:
    row = features(submitted_at=at(5 * 24 + 23))
    assert (row["hour"], row["weekday"], row["is_weekend"], row["month"]) == (23, 5, True, 1)


def test_terms_are_read_from_the_settings_of_the_bid() -> None:
    row = features(amount=50.0, bid_settings_snapshot='{"budget": 200, "duration_weeks": "4", "is_fixed_price": false}')
    assert (row["budget"], row["duration_weeks"], row["is_fixed_price"], row["amount_to_budget"]) == (200, 4, False, 0.25)


@pytest.mark.parametrize(
    "settings", [None, "", "rubbish", "[1]", '{"budget": -1}', '{"budget": "1e999"}', '{"budget": true}', '{"budget": {}}']
)
def test_terms_that_are_rubbish_are_missing(settings: str | None) -> None:
    row = features(amount=50.0, bid_settings_snapshot=settings)
    assert (row["budget"], row["is_fixed_price"], row["amount_to_budget"]) == (None, None, None)


def test_a_budget_of_nothing_gives_no_ratio() -> None:
    assert features(amount=50.0, bid_settings_snapshot='{"budget": 0}')["amount_to_budget"] is None


def test_a_missing_amount_stays_missing() -> None:
    assert features(bid_settings_snapshot='{"budget": 10}')["amount"] is None


def test_a_ratio_too_large_for_a_number_is_missing() -> None:
    assert features(amount=1e300, bid_settings_snapshot='{"budget": 1e-300}')["amount_to_budget"] is None


def test_every_bid_gets_its_own_terms_though_equal_texts_are_read_once() -> None:
    texts = ['{"budget": 1}', None, '{"budget": 2}', '{"budget": 1}']
    rows = [{"id": f"b{i}", "submitted_at": START, "bid_settings_snapshot": text} for i, text in enumerate(texts)]
    bids = table_of(contract.RAW_BIDS, [{"profile_id": "p", "job_id": "j", **row} for row in rows])
    table = FAMILY.compute({"raw_bids": bids}, TimeRange(START, START + timedelta(weeks=1)), None)
    assert table["budget"].to_pylist() == [1, None, 2, 1]
    assert table.schema == FAMILY.schema


@pytest.mark.parametrize(("text", "words"), [(None, None), ("", None), (" \n", None), ("Hello,  I can\nhelp.", 4)])
def test_the_words_of_a_text_are_counted_and_an_empty_one_is_missing(text: str | None, words: int | None) -> None:
    assert features(generated_bid_text=text)["bid_text_words"] == words
