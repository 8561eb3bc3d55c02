"""Single values out of the application's JSON, whoever wrote it: the value, or the reason why it cannot be read.

JSON is often not quite JSON: Python's `json.dumps` writes `NaN`, `str()` of a list is its repr, PostgreSQL has arrays of its
own, truth values come as 0 and 1, numbers as text. What is clear is read; what is there and not clear has a reason, so that it
can be counted (`readability.py`); None and no reason: there is nothing. Whole columns are the business of `json_columns.py`.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import re
from typing import Any

import orjson

NUMBER = r"^(?i:[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|nan|[+-]?inf(inity)?)$"
"""A regular expression for decimal numbers in ASCII; neither `1_500` nor full-width digits are."""

TRUTH_VALUES = {"true": True, "t": True, "1": True, "1.0": True, "false": False, "f": False, "0": False, "0.0": False}
"""The spellings in lower case."""

READABLE = ""
"""The reason of a value that was read."""

_NUMBER = re.compile(NUMBER)
_NOTHING = ("", "null", "none", "nan")
_LONGEST_LITERAL = 100_000  # characters of what is tried as Python's repr


def parse_json(text: str) -> Any:
    """The value of a JSON text, unwrapped where it is JSON inside any number of JSON strings; a plain string stays one.

    `NaN` and `Infinity` are floats; Python's repr of lists and dictionaries is read, too. Raises `ValueError`.
    """
    value = _parse(text)
    while isinstance(value, str):
        try:
            value = _parse(value)
        except ValueError:
            return value
    return value


def read_object(text: str | None) -> tuple[dict[str, Any], str | None]:
    """The object of a JSON text, or an empty one and the reason."""
    if _is_nothing(text):
        return {}, None
    try:
        value = parse_json(str(text))
    except ValueError:
        return {}, "not JSON"
    if isinstance(value, dict):
        return value, READABLE
    return {}, None if _is_nothing(value) else "not a JSON object"


def json_reason(text: str | None) -> str | None:
    """Whether a text is JSON at all."""
    if _is_nothing(text):
        return None
    try:
        parse_json(str(text))
    except ValueError:
        return "not JSON"
    return READABLE


def read_number(value: object) -> tuple[float | None, str | None]:
    """A finite number that is not negative, also where it is written as text."""
    if _is_nothing(value):
        return None, None
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if _NUMBER.match(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, "not a number"
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isfinite(number):
        return (number, READABLE) if number >= 0 else (None, "a negative number")
    return None, "not a finite number"


def read_truth_value(value: object) -> tuple[bool | None, str | None]:
    """true, false, 0, 1, and these as text."""
    if _is_nothing(value):
        return None, None
    if isinstance(value, bool):
        return value, READABLE
    spelling = str(value).strip().lower() if isinstance(value, int | float | str) else ""
    truth = TRUTH_VALUES.get(spelling)
    return truth, READABLE if truth is not None else "not a truth value"


def read_text_list(text: str | None) -> tuple[list[str] | None, str | None]:
    """The texts of a list: JSON, Python's repr, PostgreSQL's `{a,b}`, or plain text with commas. Objects give their `name`.

    Items that are not text are left out, which is a reason; a list of such items only is not read.
    """
    if _is_nothing(text):
        return None, None
    value = _list_of(str(text))
    if _is_nothing(value) or value == {}:  # JSON's null; an empty object, which is also PostgreSQL's empty array
        return None, None
    if not isinstance(value, list):
        return None, "not a list of texts"
    present = [item for item in value if item is not None]
    items = [item for item in map(_item, present) if item is not None]
    if present and not items:
        return None, "not a list of texts"
    return items, READABLE if len(items) == len(present) else "items that are not text"


def _list_of(text: str) -> Any:
    try:
        value = parse_json(text)
    except ValueError:
        return _separated(text)
    if isinstance(value, str) and not _is_nothing(value):  # inside a JSON string
        return _separated(value)
    if isinstance(value, set):  # of Python, or an array of PostgreSQL, which has other quotes and may have equal items
        return sorted(value, key=str) if text.lstrip("{ ").startswith("'") else _separated(text)
    return list(value) if isinstance(value, tuple) else value


def _is_nothing(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING
    return value is None or (isinstance(value, float) and math.isnan(value))


def _item(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("name")
    return value if isinstance(value, str) else None


def _parse(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    for read in (_loads, _literal):
        try:
            value = read(text)
            orjson.dumps(value, default=list)  # no lone surrogates, no endless integers, no keys but text
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        return value
    raise ValueError("not JSON")


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits))


def _literal(text: str) -> Any:
    if len(text) > _LONGEST_LITERAL or text.lstrip()[:1] not in ("[", "{", "("):
        raise ValueError("no list or dictionary of Python")
    return ast.literal_eval(text.strip())


def _separated(text: str) -> list[str | None] | str:
    """The items of PostgreSQL's text of an array, or of plain text with commas; the text where brackets say that it is
    neither."""
    text = " ".join(text.splitlines()).strip()
    is_array = text.startswith("{") and text.endswith("}")
    inner = text[1:-1] if is_array else text
    if any(bracket in inner for bracket in "{}") or (inner[:1] in ('"', "[", "(") and not is_array):
        return text
    escape = "\\" if is_array else None
    try:
        items = next(csv.reader([inner], escapechar=escape, doublequote=False, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return text
    return [None if item == "NULL" else item.strip() for item in items]
