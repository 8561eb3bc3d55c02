"""Why a prediction is what it is: what each feature added to the log-odds (SHAP), in words and numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from bid_assets.features.registry import families
from bid_assets.modelling.estimators.column_encoders import EmbeddingScore, NamedNumbers, Rating, WordScore
from bid_assets.serving.models.loaded_model import Scorer

_SHOWN_TEXT, _SHOWN_WORDS = 60, 5


@dataclass(frozen=True)
class Contribution:
    """What one column of the dataset added, all of its numbers together."""

    feature: str
    value: Any
    """As the family gives it; None: missing. Of words those that count most. An embedding is not repeated: it stands for the text."""
    log_odds: float
    words: str


@dataclass(frozen=True)
class Explanation:
    """`base` and the contributions add up to the log-odds of the probability (before calibration, where that is isotonic)."""

    base: float
    contributions: list[Contribution]
    """The largest first."""
    log_odds: float
    summary: str


def explanation(scorer: Scorer, table: pa.Table) -> Explanation:
    """Of the one row of a table of features."""
    _, parts = scorer.model.contributions(table)
    row, found = table.to_pylist()[0], []
    encodings = scorer.model.encodings
    ends = np.cumsum([len(encoding.names) for encoding in encodings])
    for encoding, numbers in zip(encodings, np.split(parts[0, :-1], ends[:-1]), strict=True):
        added = float(numbers.sum(dtype=np.float64))
        value = None if isinstance(encoding, EmbeddingScore) else row[encoding.column]
        if isinstance(encoding, WordScore) and value is not None:
            value = encoding.strongest(value, _SHOWN_WORDS)
        if isinstance(encoding, NamedNumbers) and value is not None:
            value = [f"{each['name']}={each['value']:.4g}" for each in value if each["name"] in encoding.numbers]
        missing, name = row[encoding.column] is None, encoding.column
        if isinstance(encoding, Rating):
            [name], value = encoding.names, encoding.of(value)
        found.append(Contribution(name, value, added, _words(name, value, added, missing=missing)))
    found = sorted((each for each in found if each.log_odds), key=lambda each: -abs(each.log_odds))
    base = float(parts[0, -1])
    return Explanation(base, found, base + sum(each.log_odds for each in found), _summary(found))


def _words(column: str, value: Any, added: float, *, missing: bool) -> str:
    meaning = _meanings().get(column, column)
    if missing:
        shown = " is missing"
    elif value is None:
        shown = ""
    else:
        shown = f" {'has' if isinstance(value, list) else 'is'} {_shown(value)}"
    return f"{column}{shown} ({meaning}): {_effect(added)}"


@cache
def _meanings() -> dict[str, str]:
    features = {feature.name: feature.meaning for family in families() for feature in family.features}
    return {**features, **dict.fromkeys(Rating.names, Rating.meaning)}


def _shown(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= _SHOWN_TEXT else text[: _SHOWN_TEXT - 3] + "..."


def _effect(added: float) -> str:
    return f"multiplies the odds of success by {math.exp(added):.2f}"


def _summary(found: list[Contribution]) -> str:
    """The strongest of either direction in a sentence."""
    up, down = ([each.feature for each in found if each.log_odds * sign > 0][:3] for sign in (1, -1))
    told = [f"{what} by {', '.join(names)}" for what, names in (("raised most", up), ("lowered most", down)) if names]
    return "; ".join(told) or "no feature moved it"
