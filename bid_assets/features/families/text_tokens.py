"""Feature family: token sets of the bid's text, the job's text and the external signals, for bag-of-words models.

An embedding says what a text is about; that a single token, or one repository, goes with success or failure is lost in it.
External signals become tokens of their own, and numbers by name: `{"rating": 4.87, "tags": ["new client"]}` holds the
tokens `tags=new` and `tags=client`, and the number 4.87 called `rating`. Several numbers of one name (a list) are one:
their mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from bid_assets.app_db.json_values import json_reason, parse_json
from bid_assets.features.family import NAMED_NUMBERS, TOKENS, Feature, FeatureFamily
from bid_assets.features.inputs import BidContext
from bid_assets.features.mapping import RowDefinition

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


def features_of(bid: BidContext) -> dict[str, list[Any] | None]:
    """The features of one bid."""
    signals, job = bid.signals, bid.job
    return {
        "bid_words": None if bid.text is None else _cached_tokens(bid.text),
        "job_words": None if job is None else _cached_tokens(f"{job['title'] or ''} {job['description'] or ''}"),
        "external_signals": None if signals is None else signal_tokens(signals),
        "external_numbers": None if signals is None else signal_numbers(signals),
    }


def tokenize(text: str) -> list[str]:
    """The distinct tokens of a text, sorted: runs of two or more letters, digits or underscores, in lower case."""
    return sorted(set(_TOKEN.findall(text[:MAX_CHARACTERS].lower())))


_cached_tokens = lru_cache(maxsize=_CACHE_SIZE)(tokenize)


@lru_cache(maxsize=_CACHE_SIZE)
def signal_tokens(text: str) -> list[str]:
    """The signals of a JSON text that are no numbers, as tokens; none if it is not valid."""
    tokens: set[str] = set()
    for name, value in _signal_values(text):
        if isinstance(value, bool):
            tokens.add(f"{name}={value}".lower())
        elif isinstance(value, str):
            tokens.update(f"{name}={word}" for word in _TOKEN.findall(value.lower()))
    return sorted(tokens)


@lru_cache(maxsize=_CACHE_SIZE)
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
    definition=RowDefinition(features_of),
    readability={"external_signals_snapshot": lambda text: {"external_signals_snapshot": json_reason(text)}},
    code_version="3",
)
