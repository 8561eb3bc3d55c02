"""JSON columns as the application may really have filled them, read as whole columns.

Each distinct text is parsed once. Rubbish is no error: a list that cannot be read is missing (null). What counts as what is in
`json_values.py`.
"""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT, TEXTS
from bid_assets.app_db.json_values import read_text_list


def text_lists(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.Array]:
    """JSON texts -> list<string>, and the reason for each (see `json_values.py`): what cannot be read is null."""
    encoded = column.combine_chunks().dictionary_encode()
    values = [read_text_list(text) for text in encoded.dictionary.to_pylist()]
    lists, reasons = pa.array([value for value, _ in values], TEXTS), pa.array([reason for _, reason in values], TEXT)
    return pa.chunked_array([lists.take(encoded.indices)], TEXTS), reasons.take(encoded.indices)


def unwrapped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """JSON texts as stored, but a JSON string that holds JSON ("double encoded") is replaced by what it holds."""
    if pc.all(pc.starts_with(column, "{")).as_py():  # as good as always, and a tenth of the time
        return column
    texts = column.combine_chunks()
    wrapped = pc.match_substring_regex(texts, r'^\s*"')
    if not pc.any(wrapped).as_py():
        return column
    inner = pa.array([_innermost(text) for text in texts.filter(wrapped).to_pylist()], TEXT)
    return pa.chunked_array([pc.replace_with_mask(texts, wrapped, inner)])


def _innermost(text: str) -> str:
    """The JSON text inside any number of JSON strings; `text` itself where a string holds something else."""
    inner = text
    while True:
        try:
            value: Any = orjson.loads(inner)
        except orjson.JSONDecodeError:
            return text
        if not isinstance(value, str):
            return inner
        inner = value
