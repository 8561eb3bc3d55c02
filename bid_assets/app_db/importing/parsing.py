"""Columns of imported files -> columns of the contract: what text is a time, a number or a truth value.

A value that cannot be read becomes null; `unreadable_rows` tells it from one that was not there. Parquet columns that already
have a fitting type are only cast. pandas does the parsing of text, since it can say of each value whether it can be read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT, TIME
from bid_assets.app_db.json_values import NUMBER, TRUTH_VALUES

_NOUNS = {TIME: "a time (ISO 8601, such as 2024-05-31T12:00:00Z)", pa.float64(): "a number", pa.bool_(): "true or false"}
_DATE = r"^\d{4}-?\d{2}-?\d{2}([T ]|$)"
_NANOSECONDS = r"(\.\d{6})\d+"
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_EXACT_INTEGERS = 2.0**53


def parse_column(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """`column` as `target` (text, time, number or truth value). Lists, maps and structs become JSON text.

    Null where a value cannot be read as `target`, and everywhere where no value of the column's type can.
    """
    column = _plain(column)
    kind = column.type
    if kind == target or pa.types.is_null(kind):
        return column.cast(target)
    if target == TEXT:
        return _as_text(column)
    if target == TIME and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return _as_utc(column)
    if target == pa.float64() and _is_numeric(kind):
        return column.cast(target, safe=False)  # the nearest one
    if kind == TEXT or (target != pa.float64() and _is_numeric(kind)):
        return _from_text(_as_text(column), target)
    return _nulls(len(column), target)


def unreadable_rows(column: pa.ChunkedArray, result: pa.ChunkedArray) -> list[int]:
    """The rows where `column` holds something and `result` does not."""
    column = _decoded(column)
    something = column.is_valid()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
        something = pc.and_(something, pc.fill_null(pc.not_equal(text, ""), False))
    elif pa.types.is_floating(column.type) and result.type == TEXT:  # an id that pandas has as NaN is missing
        something = pc.and_(something, pc.fill_null(pc.invert(pc.is_nan(column.cast(pa.float64()))), False))
    return np.flatnonzero(pc.and_(something, result.is_null())).tolist()


def type_description(source: pa.DataType, target: pa.DataType) -> str:
    """In words, what a value of `source` that could not be read as `target` should have been."""
    if target != TEXT:
        return _NOUNS[target]
    if pa.types.is_nested(source):
        return "JSON: bytes, durations and keys that occur twice have no place in it"
    return "text in UTF-8" if pa.types.is_binary(source) or pa.types.is_fixed_size_binary(source) else "text"


def format_value(column: pa.ChunkedArray, row: int) -> str:
    """A value as text for a message."""
    try:
        scalar = column[row].as_py()
        value = scalar.isoformat() if isinstance(scalar, datetime) else repr(scalar)
    except (ValueError, OverflowError):  # such as a date that Python does not have
        value = f"({column.type})"
    return value if len(value) <= 80 else f"{value[:77]}..."


def blank_rows(column: pa.ChunkedArray) -> list[int]:
    """The rows where a text column holds nothing, or white space only."""
    return np.flatnonzero(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)).tolist()


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries and runs, extension types as what they are stored as."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _decoded(column.cast(kind.value_type))
    if pa.types.is_run_end_encoded(kind):
        return _decoded(pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind.value_type))
    if isinstance(kind, pa.BaseExtensionType) and kind != pa.uuid():
        return _decoded(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    return column


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same, and text, bytes and UUIDs as text; null where bytes are no text."""
    column = _decoded(column)
    kind = column.type
    if kind == pa.uuid():
        return pa.chunked_array([pa.array([value and str(value) for value in column.to_pylist()], TEXT)])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = column.cast(pa.large_binary())  # since files may say that bytes are text which are not
    return _cast(column, TEXT) if _is_bytes(column.type) else column


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_nested(kind):
        return pa.chunked_array([pa.array([_json_text(value) for value in column], TEXT)])
    if pa.types.is_floating(kind):
        return _floats_as_text(column.cast(pa.float64()))
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):  # a number without a unit
        return _nulls(len(column), TEXT)
    return _cast(column, TEXT)


def _floats_as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Integers with gaps are floats to pandas: 7.0 is 7, NaN is nothing. What lost its last digits is not read."""
    column = pc.if_else(pc.less(pc.abs(column), _EXACT_INTEGERS), column, None)  # so is NaN
    whole = pc.if_else(pc.equal(column, pc.floor(column)), column, None)
    return pc.coalesce(whole.cast(pa.int64()).cast(TEXT), column.cast(TEXT))


def _json_text(scalar: pa.Scalar) -> str | None:
    """Null where the value has parts that JSON does not know."""
    if not scalar.is_valid:
        return None
    try:
        value = scalar.as_py(maps_as_pydicts="strict")
        return orjson.dumps(value, default=_json_value, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, KeyError, OverflowError):
        return None


def _json_value(value: Any) -> Any:
    if isinstance(value, Decimal):  # with all its digits
        return orjson.Fragment(format(value, "f"))
    if isinstance(value, datetime):  # of pandas
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _as_utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A naive time is UTC; nanoseconds are cut off. Null outside the years 1 to 9999."""
    kind = column.type
    naive = column.type.tz is None if pa.types.is_timestamp(kind) else True
    unit = pa.timestamp("us") if naive else TIME
    is_finer = pa.types.is_timestamp(kind) and kind.unit == "ns"
    moments = (column.cast(unit, safe=False) if is_finer else _cast(column, unit)).cast(TIME)
    usual = pc.and_(pc.greater_equal(moments, pa.scalar(_FIRST, TIME)), pc.less_equal(moments, pa.scalar(_LAST, TIME)))
    return pc.if_else(usual, moments, pa.scalar(None, TIME))


def _cast(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Null where a value has no place in `target`: Arrow says only that there is one, so halves are tried."""
    try:
        return column.cast(target)
    except pa.ArrowNotImplementedError:
        return _nulls(len(column), target)
    except pa.ArrowInvalid:
        if len(column) == 1:
            return _nulls(1, target)
        middle = len(column) // 2
        halves = _cast(column.slice(0, middle), target), _cast(column.slice(middle), target)
        return pa.chunked_array([chunk for half in halves for chunk in half.chunks], target)


def _nulls(length: int, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(length, kind)])


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _is_numeric(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal))


def _from_text(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column)
    if target == TIME:
        return _times(text)
    if target == pa.bool_():
        spellings = pa.array(list(TRUTH_VALUES))
        return pc.take(pa.array(TRUTH_VALUES.values()), pc.index_in(pc.utf8_lower(text), spellings))
    return _numbers(text)


def _times(text: pa.ChunkedArray) -> pa.ChunkedArray:
    import pandas as pd

    text = pc.replace_substring_regex(text, _NANOSECONDS, r"\1")  # with which pandas knows no years beyond 2262
    dated = pc.if_else(pc.match_substring_regex(text, _DATE), text, None)  # pandas also knows "now" and "2024"
    moments = pd.to_datetime(pd.Series(dated.to_pandas(), dtype="str"), utc=True, format="ISO8601", errors="coerce")
    return pa.chunked_array([pa.array(moments.dt.as_unit("us"), TIME, from_pandas=True)])


def _numbers(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text such as nan or inf is a number here; whether it makes sense is the reader's business."""
    import pandas as pd

    text = pc.if_else(pc.match_substring_regex(text, NUMBER), text, None)
    numbers = pd.to_numeric(pd.Series(text.to_pandas(), dtype="str"), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    spelt_nan = np.asarray(pc.fill_null(pc.equal(pc.utf8_lower(text), "nan"), False))
    return pa.chunked_array([pa.array(numbers, mask=np.isnan(numbers) & ~spelt_nan)])
