"""Lines: log-odds as a sum over columns of a matrix. And the model's second opinion, which is one: a small logistic regression on
the profile's history. The line on everything is fitted in `evidence`.

Trees cut a slope into steps, and need many bids for each; a line needs few. Numbers are compressed first (logarithm of 1 +
number): the tenth bid of a profile says less than the second. Why history alone, and the figures, are in docs/evaluation.md. Where something else than history decides, it would only dilute the trees: its weight is
what is best on validation rows.

Sums run in one fixed order, never through BLAS: the same rows give the same bits with any number of threads, and a row scores
the same alone as among others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.modelling.dataset import FAMILY_OF, feature_columns
from bid_assets.modelling.preprocess import Matrix

if TYPE_CHECKING:
    from bid_assets.modelling.metrics import Labels  # scikit-learn comes with it, which scoring does not need

Vector = npt.NDArray[np.float64]

HISTORY_FAMILY = "profile_historical_features"

PENALTY = 10.0
"""On the squares of the weights of standardised numbers; the intercept is free."""

REACH = 1.0
"""How far beyond the range of a number in training a line goes on, in lengths of that range."""

WEIGHTS = 8
"""So many weights, evenly from 0 to the most that is allowed, are tried on the validation rows."""

CLEARLY = 1.645
"""So many standard errors a gain must have: by chance one of twenty parts that say nothing has them."""

_MOST_STEPS = 100
_SMALLEST_STEP = 1e-9


@dataclass(frozen=True, eq=False)
class Line:
    """Log-odds as a sum over some columns of a matrix: `base`, and a term of each column that is 0 on average in training.

    The term of a number, once `compressed`, is `slope * number + offset`; of a missing one, `absent`. A number outside of `low` to `high` counts as
    the nearer end: a line may reach beyond what training has seen, but must not run away.
    """

    columns: npt.NDArray[np.int64]
    slope: Vector
    offset: Vector
    absent: Vector
    low: Vector
    high: Vector
    base: float

    @classmethod
    def fitted(
        cls,
        columns: npt.NDArray[np.int64],
        numbers: Imputed,
        *,
        base: float,
        slope: Vector,
        of_missing: Vector,
        mean: Vector,
        usually_missing: Vector,
    ) -> Self:
        """The line with these weights, of each column of `numbers`: of a number, and of its being missing; and what both are on average."""
        low, high = numbers.filled.min(axis=0), numbers.filled.max(axis=0)
        offset = -slope * mean - of_missing * usually_missing
        return cls(
            columns=columns,
            slope=slope,
            offset=offset,
            absent=slope * numbers.median + of_missing + offset,
            low=low - REACH * (high - low),
            high=high + REACH * (high - low),
            base=base,
        )

    def terms(self, matrix: Matrix) -> Vector:
        """What each of `columns` adds to the log-odds of each row, shape (rows, columns)."""
        numbers = compressed(np.take(matrix, self.columns, axis=1))
        inside = np.clip(numbers, self.low, self.high)
        return np.where(np.isnan(numbers), self.absent, inside * self.slope + self.offset)

    def log_odds(self, matrix: Matrix) -> Vector:
        """The log-odds of each row, shape (rows,)."""
        return np.cumsum(self.terms(matrix), axis=1)[:, -1] + self.base

    def digest(self) -> bytes:
        """SHA-256 of everything that decides a score."""
        return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in astuple(self))).digest()


HistoryLine = Line  # the name that it has in models which were saved before there were lines of something else


def fit(matrix: Matrix, success: Labels, columns: Sequence[int]) -> Line:
    """The regression of `success` on `columns` of `matrix`; both kinds of outcome must occur, and one column at least.

    A missing number counts as the median, and that it is missing is a yes/no number of its own.
    """
    numbers = Imputed.of(np.take(matrix, columns, axis=1))
    inputs = np.hstack([numbers.filled, numbers.missing])
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale[scale < 1e-12 * np.maximum(1.0, np.abs(mean))] = np.inf  # a constant says nothing
    intercept, weights = _logistic_regression((inputs - mean) / scale, success)
    slope, missing_weight = np.split(weights / scale, 2)
    usual, usually_missing = np.split(mean, 2)
    return Line.fitted(
        np.array(columns, dtype=np.int64),
        numbers,
        base=intercept,
        slope=slope,
        of_missing=missing_weight,
        mean=usual,
        usually_missing=usually_missing,
    )


class Imputed(NamedTuple):
    """Columns of numbers for a regression: compressed, and without holes."""

    filled: Vector
    """With the median where a number is missing, 0 in a column without any number."""
    missing: Labels
    """Where a number is missing."""
    median: Vector

    @classmethod
    def of(cls, matrix: Matrix) -> Imputed:
        """Of the columns of training."""
        numbers = compressed(matrix)
        missing = np.isnan(numbers)
        numbers[:, missing.all(axis=0)] = 0.0
        median = np.nanmedian(numbers, axis=0)
        return cls(np.where(np.isnan(numbers), median, numbers), missing, median)


def least_loss(
    weights: Vector,
    loss: Callable[[Vector], float],
    slopes: Callable[[Vector], tuple[Vector, Vector]],
    smallest: float,
) -> tuple[Vector, Vector]:
    """The weights of least `loss`, from these on, and the curvature before the last step, by Newton's method.

    `slopes` gives first and second derivatives. A step that makes it worse is halved; one of `smallest` is the last.
    """
    before = loss(weights)
    for _ in range(_MOST_STEPS):
        gradient, curvature = slopes(weights)
        step = np.linalg.solve(curvature, gradient)
        while (after := loss(weights - step)) > before and np.abs(step).max() > smallest:
            step /= 2
        weights, before = weights - step, after
        if np.abs(step).max() <= smallest:
            break
    return weights, curvature


def compressed(numbers: Matrix) -> Vector:
    """The logarithm of 1 + each number, in double precision; of a negative one that of its size, negative. NaN stays."""
    exact = numbers.astype(np.float64)
    return np.asarray(np.copysign(np.log1p(np.abs(exact)), exact), dtype=np.float64)


def history_columns(dataset: pa.Table) -> list[str]:
    """The feature columns of the profile's history; none where the fields do not say their family."""
    family = HISTORY_FAMILY.encode()
    return [name for name in feature_columns(dataset) if (dataset.schema.field(name).metadata or {}).get(FAMILY_OF) == family]


def blended(trees: Vector, line: Vector, weight: float) -> Vector:
    """The log-odds (or parts of them) of both together."""
    return (1 - weight) * trees + weight * line


def best_weight(trees: Vector, line: Vector, success: Labels, most: float) -> float:
    """The weight of `line`, at most `most`, with the least log loss; both parts are log-odds, shape (rows,)."""
    weights = np.linspace(0.0, most, WEIGHTS)
    return float(weights[np.argmin([log_loss(blended(trees, line, weight), success) for weight in weights])])


def trusted_weight(rest: Vector, line: Vector, success: Labels, most: float, fewest: int) -> float:
    """As `best_weight`, but 0 unless it clearly gains (a one-sided test of the gain, 5 %) on at least `fewest` rows of either class.

    For a part that can do harm where few rows favour it by chance: rows of one class are all for whoever says that class more loudly.
    """
    if min(success.sum(), (~success).sum()) < max(fewest, 1):
        return 0.0
    weight = best_weight(rest, line, success, most)
    gain = _losses(rest, success) - _losses(blended(rest, line, weight), success)
    return weight if gain.sum() > CLEARLY * np.sqrt(len(gain)) * gain.std() else 0.0


def probability(log_odds: Vector) -> Vector:
    """The probability that has these log-odds."""
    return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)


def log_loss(log_odds: Vector, success: Labels) -> float:
    """Summed over the rows; exact for any log-odds, however far from 0."""
    return float(np.sum(_losses(log_odds, success)))


def _losses(log_odds: Vector, success: Labels) -> Vector:
    """Of each row."""
    return np.asarray(np.logaddexp(0, log_odds) - success * log_odds)


def _logistic_regression(inputs: Vector, success: Labels) -> tuple[float, Vector]:
    """Intercept and weights of least log loss plus penalty."""
    design = np.hstack([np.ones((len(inputs), 1)), inputs])
    penalty = np.full(design.shape[1], PENALTY)
    penalty[0] = 0.0
    rate = success.mean()
    weights = np.zeros(design.shape[1])
    weights[0] = np.log(rate / (1 - rate))

    def loss(tried: Vector) -> float:
        log_odds = np.einsum("rc,c->r", design, tried)
        return log_loss(log_odds, success) + 0.5 * float(np.sum(penalty * tried**2))

    def slopes(tried: Vector) -> tuple[Vector, Vector]:
        expected = probability(np.einsum("rc,c->r", design, tried))
        gradient = np.einsum("rc,r->c", design, expected - success) + penalty * tried
        spread = design * (expected * (1 - expected))[:, None]
        return gradient, np.einsum("ri,rj->ij", spread, design) + np.diag(penalty)

    weights, _ = least_loss(weights, loss, slopes, _SMALLEST_STEP)
    return float(weights[0]), weights[1:]
