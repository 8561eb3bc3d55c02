"""Row-wise form of `column_encoders.encode`, for rows that are mappings of plain values: no Arrow, twenty times faster
for one row.

The results are equal bit for bit; an equivalence test holds this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bid_assets.modelling.estimators.column_encoders import (
    ColumnEncoder,
    ColumnMismatchError,
    EmbeddingLogit,
    Matrix,
    MultiHotEncoder,
    NamedNumbersEncoder,
    PassthroughEncoder,
    TargetStatistic,
    TokenLogit,
    feature_kind,
)

FeatureRow = Mapping[str, Any]

_NUMBER_TYPES, _TEXT_TYPES = frozenset({float, int, bool, type(None)}), frozenset({str, type(None)})
_NON_NUMBER_TYPES = (str, list, tuple, dict, bytes)


class RowEncoder:
    """Encodes rows for one model; built once, since it looks up where each column goes."""

    def __init__(self, encoders: Sequence[ColumnEncoder]) -> None:
        starts = np.cumsum([0, *(len(encoder.names) for encoder in encoders)]).tolist()
        placed = list(zip(encoders, starts, starts[1:], strict=False))
        self._width = starts[-1]
        self._numbers = [encoder for encoder in encoders if isinstance(encoder, PassthroughEncoder)]
        self._number_columns = [encoder.column for encoder in self._numbers]
        self._number_places = np.array(
            [start for encoder, start, _ in placed if isinstance(encoder, PassthroughEncoder)], dtype=np.int64
        )
        self._named_numbers = [
            (encoder, {name: start + place for place, name in enumerate(encoder.known_names)})
            for encoder, start, _ in placed
            if isinstance(encoder, NamedNumbersEncoder)
        ]
        self._multi_hot = [
            (
                encoder,
                feature_kind(encoder.type) == "text",
                start,
                end,
                {w: start + place for place, w in enumerate(encoder.categories)},
            )
            for encoder, start, end in placed
            if isinstance(encoder, MultiHotEncoder)
        ]
        self._token_logits = [
            (
                encoder,
                start,
                dict(
                    zip(encoder.tokens, zip(encoder.weights.tolist(), encoder.idf_squared.tolist(), strict=True), strict=True)
                ),
            )
            for encoder, start, _ in placed
            if isinstance(encoder, TokenLogit)
        ]
        self._target_statistics: list[tuple[TargetStatistic, int, dict[str | None, float]]] = [
            (encoder, start, dict(zip(encoder.profiles, encoder.values.tolist(), strict=True)))
            for encoder, start, _ in placed
            if isinstance(encoder, TargetStatistic)
        ]
        self._vectors = [(encoder, start) for encoder, start, _ in placed if isinstance(encoder, EmbeddingLogit)]

    def __call__(self, rows: Sequence[FeatureRow]) -> Matrix:
        """The matrix of shape (rows, all names). Absent and None are missing.

        Raises `ColumnMismatchError` that names the column of a value of another kind.
        """
        matrix = np.full((len(rows), self._width), np.nan, dtype=np.float32)
        for row, into in zip(rows, matrix, strict=True):
            into[self._number_places] = self._floats(row)
            for named, places in self._named_numbers:
                for name, number in _named_numbers(named, row.get(named.column)):
                    if (place := places.get(name)) is not None:
                        into[place] = number
            for words, one, start, end, places in self._multi_hot:
                if (value := row.get(words.column)) is not None:
                    into[start:end] = 0.0
                    for word in _texts_of(words, value, one):
                        if (place := places.get(word)) is not None:
                            into[place] = 1.0
            for score, start, known in self._token_logits:
                if (value := row.get(score.column)) is not None:
                    into[start] = _token_score(known, _texts_of(score, value, one=False)) - score.training_mean
            for statistic, start, values in self._target_statistics:
                into[start] = values.get(row.get(statistic.column), 0.0)
            for embedding, start in self._vectors:
                if (value := row.get(embedding.column)) is not None:
                    into[start] = _vector_score(embedding, value)
        return matrix

    def _floats(self, row: FeatureRow) -> Matrix:
        values = [row.get(column) for column in self._number_columns]
        try:
            if not _NUMBER_TYPES.issuperset(map(type, values)) and any(
                isinstance(value, _NON_NUMBER_TYPES) for value in values
            ):
                raise TypeError
            numbers = np.array(values, dtype=np.float64)  # None becomes NaN
        except (TypeError, ValueError, OverflowError):
            numbers = np.array([_number(*each) for each in zip(self._numbers, values, strict=True)], dtype=np.float64)
        with np.errstate(over="ignore"):
            floats = numbers.astype(np.float32)
        floats[~np.isfinite(floats)] = np.nan
        return floats


def _number(encoder: PassthroughEncoder, value: Any) -> float:
    """One value, or the error that names its column."""
    if value is None:
        return math.nan
    try:
        if isinstance(value, _NON_NUMBER_TYPES):
            raise TypeError("a number is expected")
        return float(value)
    except OverflowError:
        return math.nan
    except (TypeError, ValueError) as error:
        raise _mismatch(encoder, value, error) from None


def _named_numbers(encoder: NamedNumbersEncoder, value: Any) -> list[tuple[str, np.float32]]:
    """Name and value of each number; what is missing or not finite is NaN, as in a table."""
    if value is None:
        return []
    try:
        numbers = np.array([each["value"] for each in value], dtype=np.float64)  # None becomes NaN
        names = [each["name"] for each in value]
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise _mismatch(encoder, value, error) from None
    with np.errstate(over="ignore"):
        floats = numbers.astype(np.float32)
    floats[~np.isfinite(floats)] = np.nan
    return list(zip(names, floats, strict=True))


def _texts_of(encoder: MultiHotEncoder | TokenLogit, value: Any, one: bool) -> Sequence[Any]:
    if one != isinstance(value, str) or not isinstance(value, str | list | tuple):
        raise _mismatch(encoder, value, "a text is expected" if one else "a list of texts is expected")
    words = [value] if one else value
    if not _TEXT_TYPES.issuperset(map(type, words)) and not all(word is None or isinstance(word, str) for word in words):
        raise _mismatch(encoder, value, "a list of texts is expected")
    return words


def _token_score(known: Mapping[str, tuple[float, float]], words: Sequence[Any]) -> float:
    """`TokenLogit.score_tokens` of one row, added in the same order; `known`: token -> (weight, squared IDF)."""
    added = length = 0.0
    for word in words:
        if (each := known.get(word)) is not None:
            added += each[0]
            length += each[1]
    return added / (math.sqrt(length) or 1.0)


def _vector_score(encoder: EmbeddingLogit, value: Any) -> float:
    try:
        vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise _mismatch(encoder, value, error) from None
    if vector.shape != encoder.weights.shape:
        raise _mismatch(encoder, value, f"{len(encoder.weights)} numbers are expected")
    return float(encoder.score_vectors(vector[None, :])[0]) if np.isfinite(vector).all() else math.nan


def _mismatch(encoder: ColumnEncoder, value: Any, error: Exception | str) -> ColumnMismatchError:
    return ColumnMismatchError(f"column {encoder.column!r} is {encoder.type}, not {value!r:.60}: {error}", encoder.column)
