"""Words of texts and of external signals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db import contract
from bid_assets.common.windows import TimeRange
from bid_assets.features.families.text_tokens import FAMILY, MAX_CHARACTERS, tokenize
from bid_assets_tests.features.tables import START, at, table_of


def row(bid: dict[str, Any], job: dict[str, Any] | None = None) -> dict[str, Any]:
    tables = {
        "raw_bids": table_of(contract.RAW_BIDS, [{"id": "b", "profile_id": "p", "job_id": "j", "submitted_at": at(9), **bid}]),
        "raw_jobs": table_of(contract.RAW_JOBS, [] if job is None else [{"id": "j", "window": START, **job}]),
    }
    [found] = FAMILY.compute_table(tables, TimeRange(START, START + timedelta(weeks=1)), None).to_pylist()
    return dict(found)


def test_a_text_is_its_words_in_lower_case_each_once_in_order() -> None:
    assert row({"generated_bid_text": "Go, go - I do SQL_2 in Zürich!"})["bid_words"] == ["do", "go", "in", "sql_2", "zürich"]


def test_a_missing_text_has_no_words_and_a_blank_one_has_none_of_them() -> None:
    assert [row({"generated_bid_text": text})["bid_words"] for text in (None, " ", "!")] == [None, [], []]


def test_a_jobs_words_are_those_of_title_and_description() -> None:
    assert row({}, {"title": "Shop", "description": "A web shop"})["job_words"] == ["shop", "web"]
    assert row({}, {"title": "Shop"})["job_words"] == ["shop"]


def test_an_unknown_job_has_missing_words() -> None:
    assert row({})["job_words"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"rating": 4.87, "of": "4.2", "new": true}', ["new=true"]),
        ('{"tags": ["New Client", "eu"], "of": {"Repo": "a/bc"}}', ["of.Repo=bc", "tags=client", "tags=eu", "tags=new"]),
        ('{"a": null}', []),
        ('"word"', ["=word"]),
        ("rubbish", []),
        (None, None),
    ],
)
def test_external_signals_that_are_no_numbers_become_words_that_name_the_signal(
    text: str | None, expected: list[str] | None
) -> None:
    assert row({"external_signals_snapshot": text})["external_signals"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"rating": 4.87, "bids": 1234, "new": true, "tag": "a b"}', {"bids": 1234.0, "rating": 4.87}),
        ('{"rating": "4.80", "share": " -1e-3 ", "id": "12a", "n": "nan"}', {"rating": 4.8, "share": -0.001}),
        ('{"client": {"rating": 4.5}, "stars": [5, 4, [3]]}', {"client.rating": 4.5, "stars": 4.0}),
        ('{"huge": 1e400, "sum": [1e308, 1e308], "a": null}', {}),
        ("[[[[[1]]]]]", {}),
        ("rubbish", {}),
    ],
)
def test_external_signals_that_are_numbers_stay_numbers_by_name(text: str, expected: dict[str, float]) -> None:
    found = row({"external_signals_snapshot": text})["external_numbers"]
    assert {each["name"]: each["value"] for each in found} == expected
    assert [each["name"] for each in found] == sorted(expected)


def test_missing_external_signals_are_missing_numbers() -> None:
    assert row({})["external_numbers"] is None


def test_only_the_start_of_a_very_long_text_is_looked_at() -> None:
    assert tokenize("ab " * MAX_CHARACTERS + "cd") == ["ab"]


@given(st.text())
def test_property_order_and_number_of_words_change_nothing(text: str) -> None:
    again = " ".join(reversed(text.split())) + " " + text
    assert tokenize(again) == tokenize(text)
