"""The feature families that tutorial and how-to write compute what they say; the laws for them are in test_registry.py."""

from __future__ import annotations

from datetime import timedelta

from bid_assets.app_db import contract
from bid_assets.common.windows import TimeRange, microseconds_since_epoch
from bid_assets.features.inputs import BidContext
from bid_assets_tests.features.documented import FIRST_FEATURE, PACE
from bid_assets_tests.features.tables import START, at, bids_table, outcomes_table, table_of

TEXTS = ["Shall I start today? Or on Monday?", "I need 3 days.", "", None]


def test_the_family_of_the_tutorial_computes_what_it_says_for_training_and_for_serving() -> None:
    rows = [
        {"id": f"b{n}", "submitted_at": START + timedelta(hours=n), "generated_bid_text": text} for n, text in enumerate(TEXTS)
    ]
    table = FIRST_FEATURE.compute_table(
        {"raw_bids": table_of(contract.RAW_BIDS, rows)}, TimeRange(START, START + timedelta(weeks=1)), None
    )
    by_row = FIRST_FEATURE.compute_rows([BidContext(microseconds_since_epoch(START), text=text) for text in TEXTS])
    assert table.select(["question_marks", "mentions_number"]).to_pylist() == by_row
    assert by_row == [
        {"question_marks": 2, "mentions_number": False},
        {"question_marks": 0, "mentions_number": True},
        {"question_marks": 0, "mentions_number": False},
        {"question_marks": None, "mentions_number": None},
    ]


def test_the_family_of_the_how_to_says_how_long_ago_the_bid_before_was_made() -> None:
    hours = [0, 3, 3, 3 + 7 * 24, 3 + 14 * 24 + 1]
    bids = bids_table([(f"b{number}", "p", hour) for number, hour in enumerate(hours)])
    tables = {"raw_bids": bids, "raw_bid_outcomes": outcomes_table([])}
    table = PACE.compute_table(tables, TimeRange(START, at(400)))
    assert table["hours_since_previous_bid"].to_pylist() == [None, 3.0, 3.0, 7 * 24.0, None]
