"""Explanations of predictions: the SHAP values of their features in log-odds, with a sentence for each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from bid_assets.features.registry import families
from bid_assets.modelling.estimators.column_encoders import EmbeddingLogit, NamedNumbersEncoder, TargetStatistic, TokenLogit
from bid_assets.serving.models.loaded_model import LoadedModel

_MAX_TEXT, _MAX_TOKENS = 60, 5


@dataclass(frozen=True)
class Contribution:
    """SHAP value of one column of the dataset: the sum over the numbers that encode it."""

    feature: str
    value: Any
    """As the family computes it; None: missing, or an embedding. Of tokens those that weigh most."""
    log_odds: float
    words: str


@dataclass(frozen=True)
class Explanation:
    """SHAP values: `base` and they add up to the log-odds of the probability (before calibration, where that is isotonic)."""

    base: float
    contributions: list[Contribution]
    """The largest absolute value first."""
    log_odds: float
    summary: str


def explain_prediction(model: LoadedModel, table: pa.Table) -> Explanation:
    """Explain the prediction for the one row of a table of features."""
    _, shap_values = model.scorer.contributions(table)
    row, contributions = table.to_pylist()[0], []
    encoders = model.scorer.encoders
    ends = np.cumsum([len(encoder.names) for encoder in encoders])
    for encoder, numbers in zip(encoders, np.split(shap_values[0, :-1], ends[:-1]), strict=True):
        log_odds = float(numbers.sum(dtype=np.float64))
        value = None if isinstance(encoder, EmbeddingLogit) else row[encoder.column]
        if isinstance(encoder, TokenLogit) and value is not None:
            value = encoder.strongest(value, _MAX_TOKENS)
        if isinstance(encoder, NamedNumbersEncoder) and value is not None:
            value = [f"{item['name']}={item['value']:.4g}" for item in value if item["name"] in encoder.known_names]
        missing, name = row[encoder.column] is None, encoder.column
        if isinstance(encoder, TargetStatistic):
            [name], value = encoder.names, encoder.value_of(value)
        contributions.append(Contribution(name, value, log_odds, _sentence(name, value, log_odds, missing=missing)))
    contributions = sorted((item for item in contributions if item.log_odds), key=lambda item: -abs(item.log_odds))
    base = float(shap_values[0, -1])
    return Explanation(base, contributions, base + sum(item.log_odds for item in contributions), _summary(contributions))


def _sentence(column: str, value: Any, log_odds: float, *, missing: bool) -> str:
    meaning = _meanings().get(column, column)
    if missing:
        state = " is missing"
    elif value is None:
        state = ""
    else:
        state = f" {'has' if isinstance(value, list) else 'is'} {_format_value(value)}"
    return f"{column}{state} ({meaning}): {_effect(log_odds)}"


@cache
def _meanings() -> dict[str, str]:
    features = {feature.name: feature.meaning for family in families() for feature in family.features}
    return {**features, **dict.fromkeys(TargetStatistic.names, TargetStatistic.meaning)}


def _format_value(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _effect(log_odds: float) -> str:
    return f"multiplies the odds of success by {math.exp(log_odds):.2f}"


def _summary(contributions: list[Contribution]) -> str:
    """The strongest features of either direction in a sentence."""
    up, down = ([item.feature for item in contributions if item.log_odds * sign > 0][:3] for sign in (1, -1))
    parts = [f"{what} by {', '.join(names)}" for what, names in (("raised most", up), ("lowered most", down)) if names]
    return "; ".join(parts) or "no feature moved it"
