"""The text component of the model: one penalized logistic regression on words (and embeddings), fitted by scikit-learn, scored by NumPy.

Each document (a column of words) is weighed by TF-IDF and brought to length 1; an embedding has length 1 by itself. One regression
with a penalty on the squares of its weights reads them all. What it says is *added* to the log-odds of the rest, times a weight that
forward blocks choose (`blend`), 0 where it does not help. Figures are in docs/research-log/. Imports scikit-learn: import it only where a model is trained.
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
    PROFILE,
    EmbeddingLogit,
    TextLogit,
    TokenLogit,
    added_by_texts,
    array_of,
    encode,
    items,
    kind,
    vectors,
)
from bid_assets.modelling.estimators.history_logistic_regression import Vector, evenly_spread
from bid_assets.modelling.evaluation.metrics import Labels

MOST_WORDS = 10_000
"""Of each document: the most frequent ones."""
FEWEST_PROFILES = 2
"""A word that fewer use is not learnt: it may be the name of somebody who signs so."""
LOOSENESS = 1.0
"""What scikit-learn calls C: the inverse of the penalty."""
MOST_ROWS = 200_000
"""Of more bids every second, third, ... is learnt from: for so many words they are enough."""


@dataclass(frozen=True, eq=False)
class TextColumn:
    """A column of words or embeddings, read once: regressions are fitted to some of its rows."""

    column: str
    type: pa.DataType
    present: Labels
    profile: npt.NDArray[np.int64]
    """Of each row, a number for its profile."""
    words: npt.NDArray[np.object_] | None
    """In order of the alphabet; None for embeddings."""
    values: sp.csr_array
    """Shape (rows, words): 1 where a row has the word; or the embeddings, 0 where missing."""

    @classmethod
    def of(cls, table: pa.Table, column: str) -> TextColumn:
        """The column of all rows of the table."""
        values, profile = array_of(table[column]), array_of(table[PROFILE]).dictionary_encode().indices.to_numpy()
        if kind(values.type) == "vector":
            present, embeddings = vectors(values)
            dense = np.zeros((len(values), values.type.list_size))
            dense[present] = embeddings
            return cls(column, values.type, present, profile, None, sp.csr_array(dense))
        rows, texts = items(values)
        known = texts.is_valid()
        rows, encoded = rows[known.to_numpy(False)], texts.filter(known).dictionary_encode()
        order = pc.sort_indices(encoded.dictionary)
        codes = np.argsort(order.to_numpy())[encoded.indices.to_numpy()].astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(values)))]).astype(np.int32)
        has = sp.csr_array((np.ones(len(codes), np.float32), codes, starts), shape=(len(values), len(order)))
        words = encoded.dictionary.take(order).to_numpy(False)
        return cls(column, values.type, values.is_valid().to_numpy(False), profile, words, has)

    def inputs(self, rows: npt.NDArray[np.int64]) -> tuple[TextLogit, sp.csr_array]:
        """A score that says nothing yet, with what these rows teach of the words, and the rows as vectors of length 1."""
        values = self.values[rows]
        if self.words is None:
            return EmbeddingLogit(self.column, self.type, np.zeros(values.shape[1]), 0.0), values
        bids = np.bincount(values.indices, minlength=len(self.words))
        of_profiles = sp.csr_array((np.ones(len(rows), np.float32), (self.profile[rows], np.arange(len(rows)))))
        shared = np.bincount((of_profiles @ values).indices, minlength=len(self.words)) >= FEWEST_PROFILES
        kept = np.argsort(-bids * shared, kind="stable")[: min(MOST_WORDS, int(shared.sum()))]
        square = np.log(len(rows) / bids[kept]) ** 2
        weighted = values[:, kept] * np.sqrt(square)
        score = TokenLogit(self.column, self.type, tuple(self.words[kept]), np.zeros(len(kept)), square, 0.0)
        return score, normalize(weighted, copy=False) if len(kept) else weighted


def fit(texts: Sequence[TextColumn], rows: npt.NDArray[np.int64], success: Labels) -> tuple[TextLogit, ...]:
    """The regression of `success` on these rows of the texts, as one score for each of them; both kinds of outcome must occur.

    `rows`: their places, in order; `success` is of all rows. One thread, so that the same rows give the same bits on any machine of a kind.
    """
    if len(rows) > MOST_ROWS:
        rows = rows[evenly_spread(success[rows], MOST_ROWS)]
    learnt = [(text, *text.inputs(rows)) for text in texts]
    learnt = [(text, score, inputs) for text, score, inputs in learnt if len(score.weight)]
    if not learnt:
        return ()
    whole = sp.hstack([inputs for _, _, inputs in learnt], format="csr")
    with threadpool_limits(1):
        regression = LogisticRegression(C=LOOSENESS, solver="liblinear", max_iter=300).fit(whole, success[rows])
    weights = np.split(regression.coef_[0], np.cumsum([len(score.weight) for _, score, _ in learnt])[:-1])
    return tuple(
        _learned(score, weight, (inputs @ weight)[text.present[rows]])
        for (text, score, inputs), weight in zip(learnt, weights, strict=True)
    )


def added(table: pa.Table, scores: Sequence[TextLogit]) -> Vector:
    """What the scores add to the log-odds of each row, shape (rows,)."""
    return added_by_texts(encode(table, scores))


def scaled(scores: Sequence[TextLogit], weight: float) -> tuple[TextLogit, ...]:
    """The scores times a weight."""
    return tuple(replace(each, weight=each.weight * weight, usual=each.usual * weight) for each in scores)


def _learned(score: TextLogit, weight: Vector, said: Vector) -> TextLogit:
    """With the regression's weights, and 0 on average over what it says of the rows that have the text."""
    of_words = weight * np.sqrt(score.square) if isinstance(score, TokenLogit) else weight
    return replace(score, weight=of_words, usual=float(said.mean()) if len(said) else 0.0)
