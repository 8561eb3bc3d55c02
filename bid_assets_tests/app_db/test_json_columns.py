"""JSON columns are read whatever the application put there."""

from __future__ import annotations

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.contract import TEXT
from bid_assets.app_db.json_columns import text_lists, unwrapped


def column(*texts: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, TEXT)])


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ('["python", "sql"]', ["python", "sql"]),
        ("[]", []),
        ('"[\\"python\\"]"', ["python"]),
        ('["python", 3, null, ["x"], "sql"]', ["python", "sql"]),
        (None, None),
        ("", None),
        ("null", None),
        ("{}", None),
        ('"python"', None),
        ("python, sql", None),
        ("[NaN]", None),
        ('["half', None),
    ],
)
def test_a_list_of_texts_is_read_and_rubbish_is_missing(stored: str | None, read: list[str] | None) -> None:
    assert text_lists(column("[]", stored, "[]")).to_pylist() == [[], read, []]


@given(st.lists(st.none() | st.lists(st.text())), st.integers(0, 3))
def test_lists_survive_any_number_of_encodings(lists: list[list[str] | None], encodings: int) -> None:
    texts = []
    for value in lists:
        text = None if value is None else orjson.dumps(value).decode()
        for _ in range(encodings if text is not None else 0):
            text = orjson.dumps(text).decode()
        texts.append(text)
    assert text_lists(column(*texts)).to_pylist() == lists


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ('{"budget": 5}', '{"budget": 5}'),
        (' "{\\"budget\\": 5}"', '{"budget": 5}'),
        ('"hello"', '"hello"'),
        ('"half', '"half'),
        ("rubbish", "rubbish"),
        (None, None),
    ],
)
def test_json_text_stays_as_stored_unless_it_is_encoded_twice(stored: str | None, read: str | None) -> None:
    assert unwrapped(column(stored, '"1"', None)).to_pylist() == [read, "1", None]


def test_columns_without_rows_are_read() -> None:
    assert text_lists(column()).to_pylist() == []
    assert unwrapped(pa.chunked_array([], TEXT)).to_pylist() == []


def test_columns_of_several_chunks_are_read() -> None:
    chunked = pa.chunked_array([pa.array(['"[1]"', None], TEXT), pa.array(["[2]", '"[3]"'], TEXT)])
    assert unwrapped(chunked).to_pylist() == ["[1]", None, "[2]", "[3]"]
    assert text_lists(pa.chunked_array([['["a"]'], [None, '["b"]']])).to_pylist() == [["a"], None, ["b"]]
