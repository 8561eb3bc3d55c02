"""Which words the bid's text, the job's text and the external signals hold: what a model can count, beside what they mean.

An embedding says what a text is about; that one word, or one repository, goes with success or failure is lost in it.
External signals become words of their own, and numbers by name: `{"rating": 4.87, "tags": ["new client"]}` holds the words `tags=new`
and `tags=client`, and the number 4.87 called `rating`. Several numbers of one name (a list) are one: their mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.json_columns import reasons_of
from bid_assets.app_db.json_values import json_reason, parse_json
from bid_assets.common.windows import TimeRange
from bid_assets.features.family import NAMED_NUMBERS, WORDS, Encoder, Feature, FeatureFamily, RawTables, bids_of, row_of, taken
from bid_assets.features.inputs import OneBid

FEATURES = (
    Feature("bid_words", WORDS, "the different words of the bid's text"),
    Feature("job_words", WORDS, "those of the job's title and description; missing where the job is not known"),
    Feature("external_signals", WORDS, "the external signals that are no numbers, as `name=word`"),
    Feature("external_numbers", NAMED_NUMBERS, "the external signals that are numbers, by name"),
)

LONGEST = 5_000
"""Characters of a text that are looked at."""
_DEEPEST = 4
"""Levels of lists and objects in the external signals that are looked at."""
_WORD = re.compile(r"\w\w+")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
"""A number written as text, as in the bid's settings."""
_REMEMBERED = 4096


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`."""
    asked = ["id", "job_id", "submitted_at", "generated_bid_text", "external_signals_snapshot"]
    bids, jobs = bids_of(tables["raw_bids"].select(asked), span), tables["raw_jobs"].combine_chunks()
    text = pc.binary_join_element_wise(jobs["title"], jobs["description"], " ", null_handling="replace", null_replacement="")
    columns = {
        "bid_words": _of_each(bids["generated_bid_text"], words, WORDS),
        "job_words": taken(_of_each(text, words, WORDS), row_of(jobs, bids["job_id"], bids)),
        "external_signals": _of_each(bids["external_signals_snapshot"], signals, WORDS),
        "external_numbers": _of_each(bids["external_signals_snapshot"], numbers, NAMED_NUMBERS),
    }
    return FAMILY.table(bids["id"], bids["submitted_at"], columns)


def readability(tables: RawTables, span: TimeRange) -> tuple[pa.ChunkedArray, dict[str, pa.Array]]:
    """When each bid of `span` was made, and whether its external signals could be read."""
    bids = bids_of(tables["raw_bids"].select(["submitted_at", "external_signals_snapshot"]), span)
    texts = bids["external_signals_snapshot"]
    return bids["submitted_at"], {"external_signals_snapshot": reasons_of(texts, json_reason)}


def _of_each(texts: pa.ChunkedArray, said: Callable[[str], list[Any]], type_: pa.DataType) -> pa.Array:
    """What is `said` of each text, every distinct one looked at once; missing where it is."""
    encoded = texts.combine_chunks().dictionary_encode()
    return pa.array(map(said, encoded.dictionary.to_pylist()), type_).take(encoded.indices)


def of_few(bids: Sequence[OneBid], encoder: Encoder | None) -> list[dict[str, list[Any] | None]]:
    """The same of a few bids."""
    return [
        {
            "bid_words": None if bid.text is None else _words_of_late(bid.text),
            "job_words": None
            if bid.job is None
            else _words_of_late(f"{bid.job['title'] or ''} {bid.job['description'] or ''}"),
            "external_signals": None if bid.signals is None else signals(bid.signals),
            "external_numbers": None if bid.signals is None else numbers(bid.signals),
        }
        for bid in bids
    ]


def words(text: str) -> list[str]:
    """The words of a text: two letters, digits or underscores and more, in lower case, each once, in order."""
    return sorted(set(_WORD.findall(text[:LONGEST].lower())))


_words_of_late = lru_cache(maxsize=_REMEMBERED)(words)


def signals(text: str) -> list[str]:
    """The signals of a JSON text that are no numbers; none in rubbish."""
    found: set[str] = set()
    for name, value in _values(text):
        if isinstance(value, bool):
            found.add(f"{name}={value}".lower())
        elif isinstance(value, str):
            found.update(f"{name}={word}" for word in _WORD.findall(value.lower()))
    return sorted(found)


def numbers(text: str) -> list[dict[str, str | float]]:
    """The signals of a JSON text that are finite numbers, in the order of their names; none in rubbish."""
    found: dict[str, list[float]] = {}
    for name, value in _values(text):
        if isinstance(value, float) and math.isfinite(value):
            found.setdefault(name, []).append(value)
    means = ((name, sum(values) / len(values)) for name, values in sorted(found.items()))
    return [{"name": name, "value": mean} for name, mean in means if math.isfinite(mean)]


@lru_cache(maxsize=_REMEMBERED)
def _values(text: str) -> list[tuple[str, bool | str | float]]:
    """Name and value of each signal of a JSON text, in its order; a text that is a number is one."""
    try:
        return list(_leaves("", parse_json(text), _DEEPEST))
    except ValueError:
        return []


def _leaves(name: str, value: Any, deepest: int) -> Iterator[tuple[str, bool | str | float]]:
    match value:
        case bool():
            yield name, value
        case int() | float():
            yield name, float(value)
        case str():
            yield name, float(value) if _NUMBER.fullmatch(value) else value
        case list() if deepest:
            for each in value:
                yield from _leaves(name, each, deepest - 1)
        case dict() if deepest:
            for key, each in value.items():
                yield from _leaves(f"{name}.{key}" if name else key, each, deepest - 1)


FAMILY = FeatureFamily(
    name="word_features",
    description="The words of the bid's text, of the job's, and of the external signals: what a model can count.",
    key="bid_id",
    reads=("raw_bids", "raw_jobs"),
    features=FEATURES,
    compute=compute,
    of_few=of_few,
    readability=readability,
    code_version="3",
)
