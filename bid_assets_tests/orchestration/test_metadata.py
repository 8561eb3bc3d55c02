"""What Dagster's UI shows of an output's metrics."""

from __future__ import annotations

import dagster as dg
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.orchestration.metadata import plain_facts, rounded, shown_numbers

METADATA = {
    "roc_auc": 0.74503217,
    "rounds": 1234,
    "threshold": 0.223612345,
    "activated": True,
    "reason": "good",
    "labelled": 3305,
}


def test_metrics_have_four_digits_and_only_those_worth_a_plot_are_numbers() -> None:
    assert shown_numbers(METADATA) == {
        "roc_auc": dg.MetadataValue.float(0.745),
        "rounds": dg.MetadataValue.text("1,234"),
        "threshold": dg.MetadataValue.text("0.2236"),
    }


def test_the_manifest_keeps_every_digit() -> None:
    assert plain_facts(METADATA) == METADATA


@given(st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > 1e-12))
def test_law_rounding_changes_no_number_by_more_than_its_fourth_digit(value: float) -> None:
    assert abs(rounded(value) - value) <= abs(value) * 5.1e-4
    assert rounded(rounded(value)) == rounded(value)
