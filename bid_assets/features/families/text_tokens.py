"""Feature family: token sets of the bid's text, the job's text and the external signals, for bag-of-words models.

An embedding says what a text is about; that a single token, or one repository, goes with success or failure is lost in it.
External signals become tokens of their own, and numbers by name: `{"rating": 4.87, "tags": ["new client"]}` holds the
tokens `tags=new` and `tags=client`, and the number 4.87 called `rating`. Several numbers of one name (a list) are one:
their mean.
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
from bid_assets.features.family import (
    NAMED_NUMBERS,
    TOKENS,
    Encoder,
    Feature,
    FeatureFamily,
    RawTables,
    as_of_row_index,
    bids_in_span,
    take_or_null,
)
from bid_assets.features.inputs import BidContext

FEATURES = (
    Feature("bid_words", TOKENS, "the different words of the bid's text"),
    Feature("job_words", TOKENS, "those of the job's title and description; missing where the job is not known"),
    Feature("external_signals", TOKENS, "the external signals that are no numbers, as `name=word`"),
    Feature("external_numbers", NAMED_NUMBERS, "the external signals that are numbers, by name"),
)

MAX_CHARACTERS = 5_000
"""Characters of a text that are read."""
_MAX_DEPTH = 4
"""Levels of lists and objects in the external signals that are read."""
_TOKEN = re.compile(r"\w\w+")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
"""A number written as text, as in the bid's settings."""
_CACHE_SIZE = 4096


def compute_table(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`."""
    columns_read = ["id", "job_id", "submitted_at", "generated_bid_text", "external_signals_snapshot"]
    bids, jobs = bids_in_span(tables["raw_bids"].select(columns_read), span), tables["raw_jobs"].combine_chunks()
    text = pc.binary_join_element_wise(jobs["title"], jobs["description"], " ", null_handling="replace", null_replacement="")
    columns = {
        "bid_words": _map_distinct(bids["generated_bid_text"], tokenize, TOKENS),
        "job_words": take_or_null(_map_distinct(text, tokenize, TOKENS), as_of_row_index(jobs, bids["job_id"], bids)),
        "external_signals": _map_distinct(bids["external_signals_snapshot"], signal_tokens, TOKENS),
        "external_numbers": _map_distinct(bids["external_signals_snapshot"], signal_numbers, NAMED_NUMBERS),
    }
    return FAMILY.table(bids["id"], bids["submitted_at"], columns)


def readability(tables: RawTables, span: TimeRange) -> tuple[pa.ChunkedArray, dict[str, pa.Array]]:
    """Submission time of each bid of `span`, and for its external signals the reason why they could not be read."""
    bids = bids_in_span(tables["raw_bids"].select(["submitted_at", "external_signals_snapshot"]), span)
    texts = bids["external_signals_snapshot"]
    return bids["submitted_at"], {"external_signals_snapshot": reasons_of(texts, json_reason)}


def _map_distinct(texts: pa.ChunkedArray, function: Callable[[str], list[Any]], type_: pa.DataType) -> pa.Array:
    """The `function` of each text, computed once per distinct text; null where the text is null."""
    encoded = texts.combine_chunks().dictionary_encode()
    return pa.array(map(function, encoded.dictionary.to_pylist()), type_).take(encoded.indices)


def compute_rows(bids: Sequence[BidContext], encoder: Encoder | None) -> list[dict[str, list[Any] | None]]:
    """The features of each bid, in order."""
    return [
        {
            "bid_words": None if bid.text is None else _cached_tokens(bid.text),
            "job_words": None
            if bid.job is None
            else _cached_tokens(f"{bid.job['title'] or ''} {bid.job['description'] or ''}"),
            "external_signals": None if bid.signals is None else signal_tokens(bid.signals),
            "external_numbers": None if bid.signals is None else signal_numbers(bid.signals),
        }
        for bid in bids
    ]


def tokenize(text: str) -> list[str]:
    """The distinct tokens of a text, sorted: runs of two or more letters, digits or underscores, in lower case."""
    return sorted(set(_TOKEN.findall(text[:MAX_CHARACTERS].lower())))


_cached_tokens = lru_cache(maxsize=_CACHE_SIZE)(tokenize)


def signal_tokens(text: str) -> list[str]:
    """The signals of a JSON text that are no numbers, as tokens; none if it is not valid."""
    tokens: set[str] = set()
    for name, value in _signal_values(text):
        if isinstance(value, bool):
            tokens.add(f"{name}={value}".lower())
        elif isinstance(value, str):
            tokens.update(f"{name}={word}" for word in _TOKEN.findall(value.lower()))
    return sorted(tokens)


def signal_numbers(text: str) -> list[dict[str, str | float]]:
    """The signals of a JSON text that are finite numbers, in the order of their names; none if it is not valid."""
    values_by_name: dict[str, list[float]] = {}
    for name, value in _signal_values(text):
        if isinstance(value, float) and math.isfinite(value):
            values_by_name.setdefault(name, []).append(value)
    means = ((name, sum(values) / len(values)) for name, values in sorted(values_by_name.items()))
    return [{"name": name, "value": mean} for name, mean in means if math.isfinite(mean)]


@lru_cache(maxsize=_CACHE_SIZE)
def _signal_values(text: str) -> list[tuple[str, bool | str | float]]:
    """Name and value of each signal of a JSON text, in its order; a text that is a number is one."""
    try:
        return list(_leaves("", parse_json(text), _MAX_DEPTH))
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
    compute_table=compute_table,
    compute_rows=compute_rows,
    readability=readability,
    code_version="3",
)
