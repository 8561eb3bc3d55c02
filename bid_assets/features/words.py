"""Which words the bid's text, the job's text and the external signals hold: what a model can count, beside what they mean.

An embedding says what a text is about; that one word, or one repository, goes with success or failure is lost in it.
External signals become words of their own: `{"rating": 4.87, "tags": ["new client"]}` holds `rating=4.9`, `tags=new`, `tags=client`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.features.base import WORDS, Encoder, Feature, FeatureFamily, RawTables, bids_of, row_of, taken
from bid_assets.features.one_bid import OneBid
from bid_assets.windows import TimeRange

FEATURES = (
    Feature("bid_words", WORDS, "the different words of the bid's text"),
    Feature("job_words", WORDS, "those of the job's title and description; missing where the job is not known"),
    Feature("external_signals", WORDS, "the external signals as `name=word`, numbers to two digits"),
)

LONGEST = 5_000
"""Characters of a text that are looked at."""
_DEEPEST = 4
"""Levels of lists and objects in the external signals that are looked at."""
_WORD = re.compile(r"\w\w+")
_REMEMBERED = 4096


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`."""
    asked = ["id", "job_id", "submitted_at", "generated_bid_text", "external_signals_snapshot"]
    bids, jobs = bids_of(tables["raw_bids"].select(asked), span), tables["raw_jobs"].combine_chunks()
    text = pc.binary_join_element_wise(jobs["title"], jobs["description"], " ", null_handling="replace", null_replacement="")
    columns = {
        "bid_words": _of_each(bids["generated_bid_text"], words),
        "job_words": taken(_of_each(text, words), row_of(jobs, bids["job_id"], bids)),
        "external_signals": _of_each(bids["external_signals_snapshot"], signals),
    }
    return FAMILY.table(bids["id"], bids["submitted_at"], columns)


def _of_each(texts: pa.ChunkedArray, said: Callable[[str], list[str]]) -> pa.Array:
    """What is `said` of each text, every distinct one looked at once; missing where it is."""
    encoded = texts.combine_chunks().dictionary_encode()
    return pa.array(map(said, encoded.dictionary.to_pylist()), WORDS).take(encoded.indices)


def of_few(bids: Sequence[OneBid], encoder: Encoder | None) -> list[dict[str, list[str] | None]]:
    """The same of a few bids."""
    return [
        {
            "bid_words": None if bid.text is None else _words_of_late(bid.text),
            "job_words": None
            if bid.job is None
            else _words_of_late(f"{bid.job['title'] or ''} {bid.job['description'] or ''}"),
            "external_signals": None if bid.signals is None else signals(bid.signals),
        }
        for bid in bids
    ]


def words(text: str) -> list[str]:
    """The words of a text: two letters, digits or underscores and more, in lower case, each once, in order."""
    return sorted(set(_WORD.findall(text[:LONGEST].lower())))


_words_of_late = lru_cache(maxsize=_REMEMBERED)(words)


def signals(text: str) -> list[str]:
    """The signals of a JSON text; none in rubbish."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    return sorted(set(_said("", value, _DEEPEST)))


def _said(name: str, value: Any, deepest: int) -> Iterator[str]:
    match value:
        case bool():
            yield f"{name}={value}".lower()
        case int() | float():
            yield f"{name}={value:.2g}"
        case str():
            yield from (f"{name}={word}" for word in _WORD.findall(value.lower()))
        case list() if deepest:
            for each in value:
                yield from _said(name, each, deepest - 1)
        case dict() if deepest:
            for key, each in value.items():
                yield from _said(f"{name}.{key}" if name else key, each, deepest - 1)


FAMILY = FeatureFamily(
    name="word_features",
    description="The words of the bid's text, of the job's, and of the external signals: what a model can count.",
    key="bid_id",
    reads=("raw_bids", "raw_jobs"),
    features=FEATURES,
    compute=compute,
    of_few=of_few,
)
