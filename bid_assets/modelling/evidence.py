"""The model's fourth opinion: a line on every number, each column of the dataset with a penalty of its own, found by evidence.

What decides is often a sum: price, skills, experience and text each add their part. Trees must cut each of them into steps, and one
penalty for all would let hundreds of embedding components drown three numbers that matter. So each column has its penalty, the one
under which the training rows are likeliest (MacKay 1992; Bishop, Pattern Recognition and Machine Learning, 7.2: automatic
relevance determination, by Laplace's approximation): a column that says nothing is all but switched off, without validation rows.
Scored as every line (`linear`). It can know by heart how the bids on a job end, which is of no use for the next job: it has a
weight only where validation bids on new jobs are clearly for it (`linear.trusted_weight`). Figures are in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from bid_assets.modelling.linear import Imputed, Line, Vector, compressed, least_loss, log_loss, probability
from bid_assets.modelling.preprocess import Matrix

if TYPE_CHECKING:
    from bid_assets.modelling.metrics import Labels

COMPONENTS = 48
"""Principal components of each embedding that it reads, where trees are given fewer."""
MOST_ROWS = 20_000
"""Of more rows every second, third, ... of either class tells the penalties; the weights are fitted to all."""

_CHUNK = 1 << 15
_FIRST_PENALTY = 10.0
_PENALTIES = (1.0, 1e5)
_MOST_ROUNDS = 15
_SAME = 0.05  # penalties that all change by less than this share have been found
_ROUGHLY, _EXACTLY = 1e-2, 1e-6  # how small the last step of Newton's method is


def fit(matrix: Matrix, success: Labels, sources: Sequence[str]) -> Line:
    """The line on all columns of `matrix`; `sources` names the dataset's column that each comes from. Both outcomes must occur.

    A missing number counts as the median. That it is missing is a yes/no number of its own, one for all columns that miss the same
    rows. One thread, so that the same rows give the same bits on any machine of a kind.
    """
    with threadpool_limits(1):
        some = _some_of_each(success)
        telling = matrix[some]
        ruler = _Ruler.of(telling, sources)
        penalty, weights = _most_likely(ruler.inputs(telling), success[some], ruler.groups)
        if len(some) < len(success):
            weights, _ = _newton(_Rows(ruler, matrix, success), penalty[ruler.groups], weights, _EXACTLY)
    return ruler.line(weights)


@dataclass(frozen=True, eq=False)
class _Ruler:
    """How numbers become inputs of a regression: centred, and the numbers of one column measured by one scale.

    One scale, since the components of an embedding, or the words of a vocabulary, shall count as much as they vary.
    """

    numbers: Imputed
    missing: npt.NDArray[np.int64]
    """Those columns of the matrix whose holes are an input."""
    mean: Vector
    scale: Vector
    """Of the columns of the matrix and after them of `missing`; infinite where it never changes."""
    groups: npt.NDArray[np.int64]
    """Which penalty each input has."""

    @classmethod
    def of(cls, matrix: Matrix, sources: Sequence[str]) -> _Ruler:
        numbers = Imputed.of(matrix)
        _, first = np.unique(numbers.missing, axis=1, return_index=True)
        missing = np.sort(first[numbers.missing[:, first].any(axis=0)])
        inputs = np.hstack([numbers.filled, numbers.missing[:, missing]])
        names = [*sources, *(f"{column} is missing" for column in missing)]
        groups = np.unique(names, return_inverse=True)[1]
        mean, variance = inputs.mean(axis=0), inputs.var(axis=0)
        changes = variance > 1e-20 * np.maximum(1.0, mean**2)
        usual = np.bincount(groups, variance * changes) / np.maximum(np.bincount(groups, changes), 1)
        scale = np.where(changes, np.sqrt(usual[groups]), np.inf)
        return cls(numbers, missing, mean, scale, groups)

    def inputs(self, matrix: Matrix) -> Vector:
        """Shape (rows, 1 + columns of the matrix and of `missing`); the first is 1, for the intercept."""
        numbers = compressed(matrix)
        filled = np.where(np.isnan(numbers), self.numbers.median, numbers)
        inputs = (np.hstack([filled, np.isnan(numbers[:, self.missing])]) - self.mean) / self.scale
        return np.hstack([np.ones((len(matrix), 1)), inputs])

    def line(self, weights: Vector) -> Line:
        """The line with this intercept and these weights of the inputs."""
        columns = len(self.numbers.median)
        slope, of_holes = np.split(weights[1:] / self.scale, [columns])
        mean, usual_holes = np.split(self.mean, [columns])
        of_missing, usually_missing = np.zeros((2, columns))
        of_missing[self.missing], usually_missing[self.missing] = of_holes, usual_holes
        return Line.fitted(
            np.arange(columns),
            self.numbers,
            base=float(weights[0]),
            slope=slope,
            of_missing=of_missing,
            mean=mean,
            usually_missing=usually_missing,
        )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows whose inputs are made chunk by chunk, so that memory does not follow their number."""

    ruler: _Ruler
    matrix: Matrix
    success: Labels

    def __iter__(self) -> Iterator[tuple[Vector, Labels]]:
        for start in range(0, len(self.success), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield self.ruler.inputs(self.matrix[part]), self.success[part]


def _some_of_each(success: Labels) -> npt.NDArray[np.int64]:
    """Places of at most about `MOST_ROWS` rows, in order, with some of either class."""
    step = -(-len(success) // MOST_ROWS)
    return np.sort(np.concatenate([np.flatnonzero(label)[::step] for label in (success, ~success)]))


def _most_likely(inputs: Vector, success: Labels, groups: npt.NDArray[np.int64]) -> tuple[Vector, Vector]:
    """The penalty of each group under which the rows are likeliest, and intercept and weights with it.

    A penalty becomes the number of weights that the rows determine, by the sum of their squares (MacKay's rule).
    """
    rate = success.mean()
    weights = np.append(np.log(rate / (1 - rate)), np.zeros(inputs.shape[1] - 1))
    penalty = np.full(groups.max() + 1, _FIRST_PENALTY)
    rows = [(inputs, success)]
    for _ in range(_MOST_ROUNDS):
        weights, curvature = _newton(rows, penalty[groups], weights, _ROUGHLY)
        spread = np.diag(np.linalg.inv(curvature))[1:]
        determined = np.bincount(groups, 1 - penalty[groups] * spread)
        squares = np.maximum(np.bincount(groups, weights[1:] ** 2), 1e-12)
        before, penalty = penalty, np.clip(determined / squares, *_PENALTIES)
        if np.abs(np.log(penalty / before)).max() < _SAME:
            break
    return penalty, _newton(rows, penalty[groups], weights, _EXACTLY)[0]


_Parts = Sequence[tuple[Vector, "Labels"]] | _Rows


def _newton(rows: _Parts, penalty: Vector, weights: Vector, smallest: float) -> tuple[Vector, Vector]:
    """Intercept and weights of least log loss plus penalty, and its curvature; see `linear.least_loss`."""
    return least_loss(weights, partial(_loss, rows, penalty), partial(_slopes, rows, penalty), smallest)


def _loss(rows: _Parts, penalty: Vector, weights: Vector) -> float:
    of_rows = sum(log_loss(inputs @ weights, success) for inputs, success in rows)
    return of_rows + 0.5 * float(np.sum(penalty * weights[1:] ** 2))


def _slopes(rows: _Parts, penalty: Vector, weights: Vector) -> tuple[Vector, Vector]:
    """First and second derivatives of the loss plus penalty; of the intercept first."""
    penalties = np.append(0.0, penalty)
    gradient, curvature = penalties * weights, np.diag(penalties)
    for inputs, success in rows:
        expected = probability(inputs @ weights)
        gradient = gradient + inputs.T @ (expected - success)
        halfway = inputs * np.sqrt(expected * (1 - expected))[:, None]
        curvature = curvature + halfway.T @ halfway
    return gradient, curvature
