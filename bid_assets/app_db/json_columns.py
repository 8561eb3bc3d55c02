"""JSON columns as the application may really have filled them: JSON, JSON text inside a JSON string, or rubbish.

Each distinct text is parsed once. Rubbish is no error: a list that cannot be read is missing (null).
"""

from __future__ import annotations

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT, TEXTS


def text_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """JSON texts -> list<string>. Items that are not text are dropped; whatever is not a list becomes null."""
    encoded = column.combine_chunks().dictionary_encode()
    lists = pa.array([text_list(text) for text in encoded.dictionary.to_pylist()], TEXTS)
    return pa.chunked_array([lists.take(encoded.indices)], TEXTS)


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


def text_list(text: str | None) -> list[str] | None:
    """The same of one text."""
    if text is None:
        return None
    try:
        value = orjson.loads(_innermost(text))
    except orjson.JSONDecodeError:
        return None
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else None


def _innermost(text: str) -> str:
    """The JSON text inside any number of JSON strings; `text` itself where a string holds something else."""
    inner = text
    while True:
        try:
            value = orjson.loads(inner)
        except orjson.JSONDecodeError:
            return text
        if not isinstance(value, str):
            return inner
        inner = value
