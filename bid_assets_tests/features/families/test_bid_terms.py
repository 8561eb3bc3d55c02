from __future__ import annotations

from datetime import timedelta

import pytest

from bid_assets.app_db import contract
from bid_assets.common.windows import TimeRange
from bid_assets.features.families.bid_terms import FAMILY
from bid_assets.features.mapping import readability
from bid_assets_tests.features.tables import START, at, table_of


def features(**bid: object) -> dict[str, object]:
    bids = table_of(contract.RAW_BIDS, [{"id": "b", "profile_id": "p", "job_id": "j", "submitted_at": START, **bid}])
    [row] = FAMILY.compute_table({"raw_bids": bids}, TimeRange(START, START + timedelta(weeks=1)), None).to_pylist()
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


@pytest.mark.parametrize(
    ("stored", "flag"),
    [
        ("true", True),
        ("1", True),
        ("0", False),
        ('"true"', True),
        ('" FALSE "', False),
        ('"t"', True),
        ("1.0", True),
        ("2", None),
    ],
)
def test_truth_values_are_read_however_they_are_written(stored: str, flag: bool | None) -> None:
    assert features(bid_settings_snapshot=f'{{"is_fixed_price": {stored}}}')["is_fixed_price"] is flag


@pytest.mark.parametrize(
    ("stored", "number"),
    [
        ("600.50", 600.5),
        ('" 600 "', 600),
        ('"6e2"', 600),
        ("0.1234567890123456789", 0.1234567890123456789),
        ('"1_500"', None),
        ('"６００"', None),
        ('"1,500"', None),
        ("1e400", None),
        ("1" + "0" * 400, None),
        ("NaN", None),
    ],
)
def test_numbers_are_read_in_ascii_digits_and_nothing_else_is_a_number(stored: str, number: float | None) -> None:
    assert features(bid_settings_snapshot=f'{{"budget": {stored}}}')["budget"] == number


def test_a_term_that_is_not_json_does_not_take_the_others_with_it() -> None:
    for text in (
        '{"budget": 600, "is_fixed_price": true, "note": NaN}',
        "{'budget': 600, 'is_fixed_price': True, 'note': None}",
    ):
        row = features(bid_settings_snapshot=text)
        assert (row["budget"], row["is_fixed_price"]) == (600, True)


def test_terms_that_are_there_and_unreadable_are_counted_by_reason() -> None:
    texts = [
        None,
        "rubbish",
        "[1]",
        '{"budget": -1, "is_fixed_price": 2}',
        '{"budget": 5}',
        '{"budget": "much"}',
        '{"budget": NaN}',
    ]
    bids = [{"id": f"b{i}", "submitted_at": START, "bid_settings_snapshot": text} for i, text in enumerate(texts)]
    table = table_of(contract.RAW_BIDS, [{"profile_id": "p", "job_id": "j", **bid} for bid in bids])
    _, reasons = readability(FAMILY, {"raw_bids": table}, TimeRange(START, START + timedelta(weeks=1)))
    assert {name: each.to_pylist() for name, each in reasons.items()} == {
        "bid_settings_snapshot": [None, "not JSON", "not a JSON object", "", "", "", ""],
        "bid_settings_snapshot.budget": [None, None, None, "a negative number", "", "not a number", None],
        "bid_settings_snapshot.duration_weeks": [None] * 7,
        "bid_settings_snapshot.is_fixed_price": [None, None, None, "not a truth value", None, None, None],
    }


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
    table = FAMILY.compute_table({"raw_bids": bids}, TimeRange(START, START + timedelta(weeks=1)), None)
    assert table["budget"].to_pylist() == [1, None, 2, 1]
    assert table.schema == FAMILY.schema


@pytest.mark.parametrize(("text", "words"), [(None, None), ("", None), (" \n", None), ("Hello,  I can\nhelp.", 4)])
def test_the_words_of_a_text_are_counted_and_an_empty_one_is_missing(text: str | None, words: int | None) -> None:
    assert features(generated_bid_text=text)["bid_text_words"] == words
