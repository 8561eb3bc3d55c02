"""The text component of the model: one penalized logistic regression on words (and embeddings), fitted by scikit-learn, scored by NumPy.

Each document (a column of words) is weighed by TF-IDF and brought to length 1; an embedding has length 1 by itself. One regression
with a penalty on the squares of its weights reads them all. What it says is *added* to the log-odds of the rest, times a weight that
forward blocks choose (`blend`), 0 where it does not help. Figures are in docs/evaluation.md. Imports scikit-learn: import it only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from bid_assets.modelling.linear import Vector, evenly_spread
from bid_assets.modelling.metrics import Labels
from bid_assets.modelling.preprocess import (
    PROFILE,
    EmbeddingScore,
    TextScore,
    WordScore,
    added_by_texts,
    array_of,
    encode,
    items,
    kind,
    vectors,
)

MOST_WORDS = 10_000
"""Of each document: the most frequent ones."""
FEWEST_BIDS = 3
"""A word of fewer bids is not learnt."""
FEWEST_JOBS = 2
"""Nor one about a single job, which is mostly a client's name."""
PROFILES = (2, 10)
"""Nor one that fewer than a tenth of the profiles use, at least and at most so many: mostly the name of somebody who signs so."""
LOOSENESS = 3.0
"""What scikit-learn calls C: the inverse of the penalty."""
MOST_ROWS = 200_000
"""Of more bids every second, third, ... is learnt from: for so many words they are enough."""


def fit(table: pa.Table, columns: Sequence[str], success: Labels) -> tuple[TextScore, ...]:
    """The regression of `success` on the texts of `columns`, as one score for each of them; both kinds of outcome must occur.

    One thread, so that the same rows give the same bits on any machine of a kind.
    """
    if len(success) > MOST_ROWS:
        some = evenly_spread(success, MOST_ROWS)
        table, success = table.take(pa.array(some)), success[some]
    blank = [_unlearned(table, name) for name in columns]
    learnt = [score for score in blank if len(score.weight)]
    if not learnt:
        return ()
    inputs = sp.hstack([_inputs(array_of(table[score.column]), score) for score in learnt], format="csr")
    with threadpool_limits(1):
        regression = LogisticRegression(C=LOOSENESS, solver="liblinear", max_iter=300).fit(inputs, success)
    weights = np.split(regression.coef_[0], np.cumsum([len(score.weight) for score in learnt])[:-1])
    return tuple(_learned(table, score, weight) for score, weight in zip(learnt, weights, strict=True))


def added(table: pa.Table, scores: Sequence[TextScore]) -> Vector:
    """What the scores add to the log-odds of each row, shape (rows,)."""
    return added_by_texts(encode(table, scores))


def scaled(scores: Sequence[TextScore], weight: float) -> tuple[TextScore, ...]:
    """The scores times a weight."""
    return tuple(replace(each, weight=each.weight * weight, usual=each.usual * weight) for each in scores)


def _unlearned(table: pa.Table, column: str) -> TextScore:
    """A score that says nothing yet: the words to learn of a document and their inverse document frequencies, squared; an embedding's size."""
    values = array_of(table[column])
    if kind(values.type) == "vector":
        return EmbeddingScore(column, values.type, np.zeros(values.type.list_size), 0.0)
    words, bids = _shared_words(table, values)
    idf = np.log(len(values) / bids)
    return WordScore(column, values.type, words, np.zeros(len(words)), idf**2, 0.0)


def _shared_words(table: pa.Table, values: pa.Array) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The most frequent words that enough profiles use, and about enough jobs, and of how many bids each is.

    Of equally frequent ones those first in the alphabet.
    """
    rows, texts = items(values)
    owners = {name: array_of(table[name]).dictionary_encode() for name in (PROFILE, "job_id")}
    pairs = pa.table({"word": texts, **{name: each.indices.take(pa.array(rows)) for name, each in owners.items()}})
    counts = pairs.group_by("word").aggregate([([], "count_all"), *((name, "count_distinct") for name in owners)])
    fewest = {
        "count_all": FEWEST_BIDS,
        f"{PROFILE}_count_distinct": int(np.clip(len(owners[PROFILE].dictionary) // 10, *PROFILES)),
        "job_id_count_distinct": FEWEST_JOBS,
    }
    wanted = pc.is_valid(counts["word"])
    for name, least in fewest.items():
        wanted = pc.and_(wanted, pc.greater_equal(counts[name], least))
    counts = counts.filter(wanted)
    order = pc.sort_indices(counts, sort_keys=[("count_all", "descending"), ("word", "ascending")])[:MOST_WORDS]
    counts = counts.take(order)
    return tuple(counts["word"].to_pylist()), counts["count_all"].to_numpy()


def _inputs(values: pa.Array, score: TextScore) -> sp.csr_array:
    """The documents as vectors of length 1, shape (rows, words), or the embeddings as they are; 0 where missing."""
    if isinstance(score, EmbeddingScore):
        present, embeddings = vectors(values)
        dense = np.zeros((len(values), len(score.weight)))
        dense[present] = embeddings
        return sp.csr_array(dense)
    rows, codes = score.known(values)
    lengths = np.sqrt(np.bincount(rows, score.square[codes], len(values)))
    data = np.sqrt(score.square[codes]) / np.where(lengths > 0, lengths, 1)[rows]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(values)))])
    places = (codes.astype(np.int32), starts.astype(np.int32))  # scikit-learn takes no others
    return sp.csr_array((data, *places), shape=(len(values), len(score.words)))


def _learned(table: pa.Table, score: TextScore, weight: Vector) -> TextScore:
    """With the regression's weights, and 0 on average."""
    learned = replace(score, weight=weight * np.sqrt(score.square) if isinstance(score, WordScore) else weight)
    said = learned.encode(array_of(table[score.column]))
    return replace(learned, usual=float(np.nanmean(said, dtype=np.float64)) if not np.isnan(said).all() else 0.0)
