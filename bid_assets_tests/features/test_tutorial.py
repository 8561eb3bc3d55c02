"""The feature family that docs/tutorials/first_feature.md writes is one: it computes what it says, by table and by row."""

from __future__ import annotations

import re
from datetime import timedelta
from types import ModuleType

import pytest

from bid_assets.app_db import contract
from bid_assets.common.windows import TimeRange, microseconds_since_epoch
from bid_assets.features.family import FeatureFamily
from bid_assets.features.inputs import BidContext, BidHistory
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.features.tables import START, table_of

TEXTS = ["Shall I start today? Or on Monday?", "I need 3 days.", "", None]


@pytest.fixture(scope="module")
def family() -> FeatureFamily:
    [code] = re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs" / "tutorials" / "first_feature.md").read_text(), re.DOTALL)
    module = ModuleType("text_style")
    exec(compile(code, "first_feature.md", "exec"), module.__dict__)
    assert isinstance(module.FAMILY, FeatureFamily)
    return module.FAMILY


def test_the_family_of_the_tutorial_says_the_same_of_a_table_and_of_rows(family: FeatureFamily) -> None:
    rows = [
        {"id": f"b{n}", "submitted_at": START + timedelta(hours=n), "generated_bid_text": text} for n, text in enumerate(TEXTS)
    ]
    table = family.compute_table(
        {"raw_bids": table_of(contract.RAW_BIDS, rows)}, TimeRange(START, START + timedelta(weeks=1)), None
    )
    at = microseconds_since_epoch(START)
    bids = [BidContext(at, None, text, None, None, None, None, BidHistory(), None) for text in TEXTS]
    assert family.compute_rows is not None
    by_row = family.compute_rows(bids, None)
    assert table.select(["question_marks", "mentions_number"]).to_pylist() == by_row
    assert by_row[0] == {"question_marks": 2, "mentions_number": False}
    assert by_row[1] == {"question_marks": 0, "mentions_number": True}
