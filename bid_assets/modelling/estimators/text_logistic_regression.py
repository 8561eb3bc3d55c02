"""The text component of the blend: TF-IDF logistic regression on tokens (and embeddings), fitted by scikit-learn,
scored by NumPy.

Each document (a column of tokens) is a TF-IDF vector of length 1; an embedding has length 1 by itself. One L2-penalized
regression reads them all. Its log-odds are *added* to those of the other components, times a blend weight that forward
blocks choose (`blend`), 0 where it does not help. Figures are in docs/research-log/. Imports scikit-learn: import it
only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from bid_assets.modelling.estimators.column_encoders import (
    PROFILE_COLUMN,
    EmbeddingLogit,
    TextLogit,
    TokenLogit,
    as_array,
    encode,
    feature_kind,
    finite_vectors,
    flatten_texts,
    text_log_odds,
)
from bid_assets.modelling.estimators.history_logistic_regression import FloatArray, stratified_subsample
from bid_assets.modelling.evaluation.metrics import Labels

MAX_TOKENS = 10_000
"""Vocabulary size of each document: the most frequent tokens."""
MIN_PROFILES = 2
"""A token that fewer profiles use is left out: it may be the name of somebody who signs so."""
C = 1.0
"""Inverse of the regularization strength, as in scikit-learn."""
MAX_ROWS = 200_000
"""More rows are subsampled, stratified by outcome: for so many tokens these are enough."""


@dataclass(frozen=True, eq=False)
class TextColumn:
    """A column of tokens or embeddings as a sparse matrix, read once: regressions are fitted to some of its rows."""

    column: str
    type: pa.DataType
    present: Labels
    profile: npt.NDArray[np.int64]
    """Of each row, a number for its profile."""
    tokens: npt.NDArray[np.object_] | None
    """Sorted; None for embeddings."""
    values: sp.csr_array
    """Shape (rows, tokens): 1 where a row has the token; or the embeddings, 0 where missing."""

    @classmethod
    def from_table(cls, table: pa.Table, column: str) -> TextColumn:
        """The column of all rows of the table."""
        values, profile = as_array(table[column]), as_array(table[PROFILE_COLUMN]).dictionary_encode().indices.to_numpy()
        if feature_kind(values.type) == "vector":
            present, embeddings = finite_vectors(values)
            dense = np.zeros((len(values), values.type.list_size))
            dense[present] = embeddings
            return cls(column, values.type, present, profile, None, sp.csr_array(dense))
        rows, texts = flatten_texts(values)
        known = texts.is_valid()
        rows, encoded = rows[known.to_numpy(False)], texts.filter(known).dictionary_encode()
        order = pc.sort_indices(encoded.dictionary)
        codes = np.argsort(order.to_numpy())[encoded.indices.to_numpy()].astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(values)))]).astype(np.int32)
        has = sp.csr_array((np.ones(len(codes), np.float32), codes, starts), shape=(len(values), len(order)))
        tokens = encoded.dictionary.take(order).to_numpy(False)
        return cls(column, values.type, values.is_valid().to_numpy(False), profile, tokens, has)

    def tfidf_inputs(self, rows: npt.NDArray[np.int64]) -> tuple[TextLogit, sp.csr_array]:
        """A logit with the vocabulary and IDF of these rows and weights 0, and the rows as vectors of length 1."""
        values = self.values[rows]
        if self.tokens is None:
            return EmbeddingLogit(self.column, self.type, np.zeros(values.shape[1]), 0.0), values
        bids = np.bincount(values.indices, minlength=len(self.tokens))
        of_profiles = sp.csr_array((np.ones(len(rows), np.float32), (self.profile[rows], np.arange(len(rows)))))
        shared = np.bincount((of_profiles @ values).indices, minlength=len(self.tokens)) >= MIN_PROFILES
        kept = np.argsort(-bids * shared, kind="stable")[: min(MAX_TOKENS, int(shared.sum()))]
        idf_squared = np.log(len(rows) / bids[kept]) ** 2
        weighted = values[:, kept] * np.sqrt(idf_squared)
        logit = TokenLogit(self.column, self.type, tuple(self.tokens[kept]), np.zeros(len(kept)), idf_squared, 0.0)
        return logit, normalize(weighted, copy=False) if len(kept) else weighted


def fit_text_regression(texts: Sequence[TextColumn], rows: npt.NDArray[np.int64], success: Labels) -> tuple[TextLogit, ...]:
    """The logistic regression of `success` on the texts in these rows, as one logit per text; both classes must occur.

    `rows`: ascending indices; `success` is of all rows. One thread, so that the same rows give the same bits on any
    machine of a kind.
    """
    if len(rows) > MAX_ROWS:
        rows = rows[stratified_subsample(success[rows], MAX_ROWS)]
    parts = [(text, *text.tfidf_inputs(rows)) for text in texts]
    parts = [(text, logit, inputs) for text, logit, inputs in parts if len(logit.weights)]
    if not parts:
        return ()
    whole = sp.hstack([inputs for _, _, inputs in parts], format="csr")
    with threadpool_limits(1):
        regression = LogisticRegression(C=C, solver="liblinear", max_iter=300).fit(whole, success[rows])
    weights = np.split(regression.coef_[0], np.cumsum([len(logit.weights) for _, logit, _ in parts])[:-1])
    return tuple(
        _with_weights(logit, weight, (inputs @ weight)[text.present[rows]])
        for (text, logit, inputs), weight in zip(parts, weights, strict=True)
    )


def predict_log_odds(table: pa.Table, logits: Sequence[TextLogit]) -> FloatArray:
    """The contribution of the logits to the log-odds of each row, shape (rows,)."""
    return text_log_odds(encode(table, logits))


def scale(logits: Sequence[TextLogit], factor: float) -> tuple[TextLogit, ...]:
    """The logits times a blend weight."""
    return tuple(replace(each, weights=each.weights * factor, training_mean=each.training_mean * factor) for each in logits)


def _with_weights(logit: TextLogit, weights: FloatArray, log_odds: FloatArray) -> TextLogit:
    """With the weights of the regression, centred to 0 over its `log_odds` of the rows that have the text."""
    of_tokens = weights * np.sqrt(logit.idf_squared) if isinstance(logit, TokenLogit) else weights
    return replace(logit, weights=of_tokens, training_mean=float(log_odds.mean()) if len(log_odds) else 0.0)
