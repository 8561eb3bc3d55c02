"""The text component of the blend: TF-IDF logistic regression on tokens (and embeddings).

Each document (a column of tokens) is a TF-IDF vector of length 1; an embedding has length 1 by itself. One L2-penalized
regression reads them all. Its log-odds are *added* to those of the other components, times a blend weight that forward
blocks choose (`blend`), 0 where it does not help. Results are in docs/research-log/.

Tokens come as Arrow lists, and are read into sparse matrices without becoming Python objects. scikit-learn's
`TfidfVectorizer` would need each document as a list of `str`, counts documents where `min_profiles` counts their
authors, and has no IDF of `log(rows / documents)`; so `Tfidf` is a transformer of ours. Imports scikit-learn: import it
only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.estimators.base import LogOddsClassifier, binary_labels, stratified_subsample
from bid_assets.modelling.estimators.column_encoders import (
    EmbeddingLogit,
    TextLogit,
    TokenLogit,
    as_array,
    feature_kind,
    finite_vectors,
    flatten_texts,
)
from bid_assets.modelling.evaluation.metrics import Labels

Integers = npt.NDArray[np.int64]

CHUNK_ROWS = 1 << 16
"""Rows of tokens that are counted at once: what is needed beside the result stays small."""


@dataclass(frozen=True, eq=False)
class TextColumn:
    """A column of tokens or embeddings as a sparse matrix."""

    column: str
    type: pa.DataType
    present: Labels
    profile: Integers
    """Of each row, a number for its profile."""
    tokens: pa.StringArray | None
    """Sorted; None for embeddings."""
    values: sp.csr_array
    """Shape (rows, tokens): 1 where a row has the token; or the embeddings, 0 where missing."""

    @classmethod
    def from_arrow(cls, column: str, values: pa.ChunkedArray, profile: Integers) -> TextColumn:
        """The column of all rows of a table."""
        present = values.is_valid().to_numpy()
        if feature_kind(values.type) == "vector":
            present, embeddings = finite_vectors(as_array(values))
            dense = np.zeros((len(values), values.type.list_size))
            dense[present] = embeddings
            return cls(column, values.type, present, profile, None, sp.csr_array(dense))
        counts, encoded = [np.zeros(1, np.int64)], [pa.array([], pa.string()).dictionary_encode()]
        for start in range(0, len(values), CHUNK_ROWS):
            chunk = as_array(values.slice(start, CHUNK_ROWS))
            rows, texts = flatten_texts(chunk)
            known = texts.is_valid()
            counts.append(np.bincount(rows[known.to_numpy(False)], minlength=len(chunk)))
            encoded.append(texts.filter(known).dictionary_encode())
        unified = pa.chunked_array(encoded).unify_dictionaries()
        tokens = unified.chunk(0).dictionary
        order = pc.sort_indices(tokens)
        rank = np.argsort(order.to_numpy()).astype(np.int32)
        codes = np.concatenate([rank[chunk.indices.to_numpy()] for chunk in unified.chunks])
        starts = np.cumsum(np.concatenate(counts)).astype(np.int32)
        has = sp.csr_array((np.ones(len(codes), np.int8), codes, starts), shape=(len(values), len(order)))
        return cls(column, values.type, present, profile, tokens.take(order), has)

    def __getitem__(self, rows: Integers) -> TextColumn:
        """Some of the rows."""
        return replace(self, present=self.present[rows], profile=self.profile[rows], values=self.values[rows])


class Tfidf(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The rows of a `TextColumn` as TF-IDF vectors of length 1; embeddings as they are."""

    def __init__(self, max_tokens: int = 10_000, min_profiles: int = 2) -> None:
        self.max_tokens = max_tokens
        """Vocabulary size: the most frequent tokens."""
        self.min_profiles = min_profiles
        """A token that fewer profiles use is left out: it may be the name of somebody who signs so."""

    def fit(self, X: TextColumn, y: object = None) -> Tfidf:
        """Learn vocabulary and IDF."""
        if X.tokens is None:
            return self
        rows, size = X.values.shape
        bids = np.bincount(X.values.indices, minlength=size)
        of_profiles = sp.csr_array((np.ones(rows, np.float32), (X.profile, np.arange(rows))))
        shared = np.bincount((of_profiles @ X.values).indices, minlength=size) >= self.min_profiles
        kept = np.argsort(-bids * shared, kind="stable")[: min(self.max_tokens, int(shared.sum()))]
        self.tokens_ = X.tokens.take(kept)
        self.idf_squared_ = np.log(rows / bids[kept]) ** 2
        return self

    def transform(self, X: TextColumn) -> sp.csr_array:
        """Shape (rows, tokens) or (rows, dimension)."""
        if X.tokens is None:
            return X.values
        code_of = pc.index_in(X.tokens, value_set=self.tokens_).fill_null(-1).to_numpy()
        codes = code_of[X.values.indices]
        kept = codes >= 0
        starts = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)[X.values.indptr]
        idf = np.sqrt(self.idf_squared_)[codes[kept]]
        vectors = sp.csr_array((idf, codes[kept], starts), shape=(X.values.shape[0], len(self.tokens_)))
        vectors.sort_indices()
        return normalize(vectors, copy=False) if vectors.nnz else vectors


class TextLogisticRegression(LogOddsClassifier):
    """Logistic regression on several `TextColumn`s. The log-odds of each are 0 on average over the rows that have it.

    There is no intercept in `decision_function`: it is added to what other components say.
    """

    def __init__(self, C: float = 1.0, max_tokens: int = 10_000, min_profiles: int = 2, max_rows: int = 200_000) -> None:
        self.C = C
        self.max_tokens = max_tokens
        self.min_profiles = min_profiles
        self.max_rows = max_rows
        """More rows are subsampled, stratified by outcome: for so many tokens these are enough."""

    def fit(self, X: Sequence[TextColumn], y: Any) -> TextLogisticRegression:
        """One thread, so that the same rows give the same bits on any machine of a kind. Both classes must occur."""
        self.classes_, success = binary_labels(y)
        if len(success) > self.max_rows:
            rows = stratified_subsample(success, self.max_rows)
            X, success = [text[rows] for text in X], success[rows]
        self.columns_ = [(text.column, text.type) for text in X]
        self.vectorizers_ = [Tfidf(self.max_tokens, self.min_profiles).fit(text) for text in X]
        inputs = [vectorizer.transform(text) for vectorizer, text in zip(self.vectorizers_, X, strict=True)]
        widths = [each.shape[1] for each in inputs]
        self.n_tokens_ = sum(len(each.tokens_) for each in self.vectorizers_ if hasattr(each, "tokens_"))
        if not sum(widths):
            self.coefs_, self.means_ = [np.empty(0) for _ in X], [0.0 for _ in X]
            return self
        with threadpool_limits(1):
            regression = LogisticRegression(C=self.C, solver="liblinear", max_iter=300)
            regression.fit(sp.hstack(inputs, format="csr"), success)
        self.coefs_ = np.split(regression.coef_[0], np.cumsum(widths)[:-1])
        log_odds = [(each @ coef)[text.present] for each, coef, text in zip(inputs, self.coefs_, X, strict=True)]
        self.means_ = [float(each.mean()) if len(each) else 0.0 for each in log_odds]
        return self

    def decision_function(self, X: Sequence[TextColumn]) -> FloatArray:
        """What the texts say of each row, each in single precision as a scorer has it; a missing text adds nothing."""
        added = np.zeros(len(X[0].present))
        for text, vectorizer, coef, mean in zip(X, self.vectorizers_, self.coefs_, self.means_, strict=True):
            if len(coef):
                log_odds = (vectorizer.transform(text) @ coef - mean).astype(np.float32)
                added += np.where(text.present, log_odds, 0)
        return added

    def compile(self, factor: float) -> tuple[TextLogit, ...]:
        """The regression as one logit of each text that says anything, times a blend weight."""
        logits: list[TextLogit] = []
        for (column, type_), vectorizer, coef, mean in zip(
            self.columns_, self.vectorizers_, self.coefs_, self.means_, strict=True
        ):
            if not len(coef):
                continue
            if feature_kind(type_) == "vector":
                logits.append(EmbeddingLogit(column, type_, coef * factor, mean * factor))
            else:
                weights = coef * np.sqrt(vectorizer.idf_squared_) * factor
                tokens = tuple(vectorizer.tokens_.to_pylist())
                logits.append(TokenLogit(column, type_, tokens, weights, vectorizer.idf_squared_, mean * factor))
        return tuple(logits)
