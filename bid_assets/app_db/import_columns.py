"""Columns of imported files -> columns of the contract: what text is a time, a number or a truth value.

A value that cannot be read becomes null; `unreadable` tells it from one that was not there. Parquet columns that already
have a fitting type are only cast. pandas does the parsing of text, since it can say of each value whether it can be read.
"""

from __future__ import annotations

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT, TIME

NOUNS = {TIME: "a time (ISO 8601, such as 2024-05-31T12:00:00Z)", pa.float64(): "a number", pa.bool_(): "true or false"}
_DATE = r"^\d{4}-?\d{2}-?\d{2}"
_TRUTH = {"true": True, "t": True, "1": True, "1.0": True, "false": False, "f": False, "0": False, "0.0": False}


def parsed(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """`column` as `target` (text, time, number or truth value). Lists and structs become JSON text."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.type == target or pa.types.is_null(column.type):
        return column.cast(target)
    if target == TEXT:
        return _as_text(column)
    if target == TIME and (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        return _as_utc(column)
    if target == pa.float64() and (pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)):
        return column.cast(target)
    if target == pa.float64() and pa.types.is_floating(column.type):
        return column.cast(target)
    return _from_text(column.cast(TEXT), target)


def unreadable(column: pa.ChunkedArray, result: pa.ChunkedArray) -> list[int]:
    """The rows where `column` holds something and `result` does not."""
    something = column.is_valid()
    if pa.types.is_string(column.type):
        something = pc.and_(something, pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(column), ""), False))
    return np.flatnonzero(pc.and_(something, result.is_null())).tolist()


def blank(column: pa.ChunkedArray) -> list[int]:
    """The rows where a text column holds nothing, or white space only."""
    return np.flatnonzero(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)).tolist()


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type):
        texts = [None if value is None else orjson.dumps(value).decode() for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, TEXT)])
    return column.cast(TEXT)


def _as_utc(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A naive time is UTC; nanoseconds are cut off."""
    naive = column.type.tz is None if pa.types.is_timestamp(column.type) else True
    unit = pa.timestamp("us") if naive else TIME
    return column.cast(unit, safe=False).cast(TIME)


def _from_text(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column)
    if target == TIME:
        return _times(text)
    if target == pa.bool_():
        spellings = pa.array(list(_TRUTH))
        return pc.take(pa.array(_TRUTH.values()), pc.index_in(pc.utf8_lower(text), spellings))
    return _numbers(text)


def _times(text: pa.ChunkedArray) -> pa.ChunkedArray:
    import pandas as pd

    dated = pc.if_else(pc.match_substring_regex(text, _DATE), text, None)  # pandas also knows "now" and "2024"
    moments = pd.to_datetime(pd.Series(dated.to_pandas(), dtype="str"), utc=True, format="ISO8601", errors="coerce")
    return pa.chunked_array([pa.array(moments.dt.as_unit("us"), TIME, from_pandas=True)])


def _numbers(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text such as nan or inf is a number here; whether it makes sense is the reader's business."""
    import pandas as pd

    numbers = pd.to_numeric(pd.Series(text.to_pandas(), dtype="str"), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    spelt_nan = np.asarray(pc.fill_null(pc.equal(pc.utf8_lower(text), "nan"), False))
    return pa.chunked_array([pa.array(numbers, mask=np.isnan(numbers) & ~spelt_nan)])
