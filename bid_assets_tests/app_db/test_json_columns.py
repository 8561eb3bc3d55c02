"""JSON columns are read whatever the application put there."""

from __future__ import annotations

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.contract import TEXT
from bid_assets.app_db.json_columns import text_lists, unwrapped
from bid_assets.app_db.json_values import READABLE


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
        ('"python"', ["python"]),
        ('"  "', None),
        ("python, sql", ["python", "sql"]),
        ("python", ["python"]),
        ('"python, sql"', ["python", "sql"]),
        ("{python,sql}", ["python", "sql"]),
        ('{"machine learning",NULL,"a \\"b\\"",c#}', ["machine learning", 'a "b"', "c#"]),
        ("['python', 'sql']", ["python", "sql"]),
        ("{'sql', 'python'}", ["python", "sql"]),
        ("('python', None)", ["python"]),
        ('[{"name": "python"}, {"name": "sql", "level": 3}]', ["python", "sql"]),
        ('["python", NaN]', ["python"]),
        ("[1, 2]", None),
        ("5", None),
        ("{{a,b},{c,d}}", None),
        ("nan", None),
        ("['python', open('x')]", None),
        ('["\\ud800"]', None),
        ("[NaN]", None),
        ('["half', None),
    ],
)
def test_a_list_of_texts_is_read_and_rubbish_is_missing(stored: str | None, read: list[str] | None) -> None:
    assert text_lists(column("[]", stored, "[]"))[0].to_pylist() == [[], read, []]


@pytest.mark.parametrize(
    "text", ["python", "python, sql", "{python,sql}", "['python', 'sql']", "[half", "nan", "5", "{{a},{b}}", ""]
)
def test_a_text_inside_a_json_string_is_read_as_it_is_without(text: str) -> None:
    plain, wrapped = text_lists(column(text, orjson.dumps(text).decode()))[0].to_pylist()
    assert plain == wrapped


@given(st.lists(st.none() | st.lists(st.text())), st.integers(0, 3))
def test_lists_survive_any_number_of_encodings(lists: list[list[str] | None], encodings: int) -> None:
    texts = []
    for value in lists:
        text = None if value is None else orjson.dumps(value).decode()
        for _ in range(encodings if text is not None else 0):
            text = orjson.dumps(text).decode()
        texts.append(text)
    assert text_lists(column(*texts))[0].to_pylist() == lists


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
    assert text_lists(column())[0].to_pylist() == []
    assert unwrapped(pa.chunked_array([], TEXT)).to_pylist() == []


def test_columns_of_several_chunks_are_read() -> None:
    chunked = pa.chunked_array([pa.array(['"[1]"', None], TEXT), pa.array(["[2]", '"[3]"'], TEXT)])
    assert unwrapped(chunked).to_pylist() == ["[1]", None, "[2]", "[3]"]
    assert text_lists(pa.chunked_array([['["a"]'], [None, '["b"]']]))[0].to_pylist() == [["a"], None, ["b"]]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1))
def test_postgresqls_text_of_an_array_is_read_as_its_items(items: list[str]) -> None:
    escaped = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    text = "{" + ",".join(f'"{item}"' for item in escaped) + "}"
    [read] = text_lists(column(text))[0].to_pylist()
    assert read is None or [item.split() for item in read] == [item.split() for item in items]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, None),
        (" ", None),
        ("null", None),
        ("{}", None),
        ("[]", READABLE),
        ("a, b", READABLE),
        ('["a", null]', READABLE),
        ('["a", 1]', "items that are not text"),
        ("[1]", "not a list of texts"),
        ('["half', "not a list of texts"),
        ("3", "not a list of texts"),
    ],
)
def test_a_list_that_is_there_and_cannot_be_read_has_a_reason(text: str | None, reason: str | None) -> None:
    assert text_lists(column(text))[1].to_pylist() == [reason]
