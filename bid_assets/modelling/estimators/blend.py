"""How much each component of the model contributes: forward blocks of time, and the weights that are best over all of them.

A blend is `(1 - history) * trees + history * history's + text * text's`, in log-odds. Its weights minimize the mean log loss of several
blocks of the newest training bids, each scored by components that learned from older bids only; newer blocks count more, none decides
alone. Then they are drawn towards 0 until no block is worse than with the trees alone by more than its standard error.
What a component is belongs to `boosting`, `linear` and `words`. Imports SciPy: import this module only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from bid_assets.modelling.estimators.history_logistic_regression import Vector, log_losses, probability
from bid_assets.modelling.evaluation.metrics import Labels
from bid_assets.modelling.parameters import TrainingParameters

BLOCKS = 3
"""Forward blocks, where each can have enough bids of either class."""
RECENCY = 3.0
"""A block counts so many times the one before it: its components have learned from more bids, and it is nearer to the bids to come."""
SHRINKAGE_STEPS = 20
"""Steps from the weights that are best on all blocks to none."""

Times = npt.NDArray[np.int64]


class ForwardBlock(NamedTuple):
    """Rows that validate, and the older rows that components learn from to be validated on them."""

    fitted: Labels
    validation: Labels
    begin: int
    """When the block begins, microseconds; nothing known later is used."""


class Weights(NamedTuple):
    """What the components but the trees have of the log-odds."""

    history: float = 0.0
    text: float = 0.0


@dataclass(frozen=True, eq=False)
class Components:
    """The log-odds that each component gives to the rows of a block, shape (rows,), and the labels. 0 of what there is not."""

    trees: Vector
    history: Vector
    text: Vector
    success: Labels

    def blended(self, weights: Weights) -> Vector:
        """The log-odds of the blend."""
        return (1 - weights.history) * self.trees + weights.history * self.history + weights.text * self.text

    def harmed(self, weights: Weights) -> bool:
        """Whether the blend is worse here than the trees alone by more than the standard error of the difference."""
        harm = log_losses(self.blended(weights), self.success) - log_losses(self.trees, self.success)
        return bool(harm.mean() > harm.std() / np.sqrt(len(harm)))


def forward_blocks(submitted: Times, known: Times, success: Labels, parameters: TrainingParameters) -> list[ForwardBlock]:
    """At most `BLOCKS` blocks of the newest rows, oldest first; rows are in order of `submitted`.

    Each has at least its part of `validation_share` of the rows, all rows of its first moment, and `min_per_class` of either class, if
    older rows have both classes too. Nothing fitted became known after its block begins, unless that would leave fewer than
    `min_per_class` of a class. Empty where no older part has both classes.
    """
    least = max(1, round(len(success) * parameters.validation_share / BLOCKS))
    blocks: list[ForwardBlock] = []
    end = len(success)
    while len(blocks) < BLOCKS and end > least:
        begin = _begin(submitted, success[:end], least, parameters.min_per_class)
        moment = submitted[begin]
        fitted = (submitted < moment) & (known < moment)
        if not _has_both(success[fitted], parameters.min_per_class):
            fitted = submitted < moment
        if not _has_both(success[fitted], 1):
            break
        validation = np.zeros(len(success), dtype=bool)
        validation[begin:end] = True
        blocks.insert(0, ForwardBlock(fitted, validation, int(moment)))
        end = begin
    return blocks


def _begin(submitted: Times, success: Labels, least: int, per_class: int) -> int:
    """The first row of the smallest newest part of the rows that has so many rows, and so many of either class.

    At most half of the rows are taken for the sake of a class: what was decided soon is mostly of one.
    """
    for label in (success, ~success):
        enough = int(np.searchsorted(np.cumsum(label[::-1]), per_class)) + 1
        least = max(least, min(enough, len(success) // 2))
    return int(np.searchsorted(submitted, submitted[len(success) - least]))


def _has_both(success: Labels, least: int) -> bool:
    return bool(min(success.sum(), (~success).sum()) >= least)


def recency(blocks: int) -> Vector:
    """How much each block counts, oldest first; together 1."""
    weights = RECENCY ** np.arange(blocks)
    return np.asarray(weights / weights.sum())


def blend_weights(blocks: Sequence[Components], most: Weights) -> Weights:
    """The weights, between 0 and `most`, of least mean log loss of the blocks, that harm none of them."""
    counts = recency(len(blocks))

    def loss(weights: Vector) -> tuple[float, Vector]:
        tried, total, gradient = Weights(*weights), 0.0, np.zeros(2)
        for block, count in zip(blocks, counts, strict=True):
            log_odds = block.blended(tried)
            residual = probability(log_odds) - block.success
            slopes = [np.mean(residual * (block.history - block.trees)), np.mean(residual * block.text)]
            total, gradient = total + count * np.mean(log_losses(log_odds, block.success)), gradient + count * np.array(slopes)
        return float(total), gradient

    best = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(0.0, limit) for limit in most]).x
    for step in range(SHRINKAGE_STEPS, 0, -1):
        weights = Weights(*(round(float(weight) * step / SHRINKAGE_STEPS, 2) for weight in best))
        if not any(block.harmed(weights) for block in blocks):
            return weights
    return Weights()
