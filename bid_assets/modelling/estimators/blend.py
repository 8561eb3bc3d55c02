"""Blend weights: chosen on forward blocks of time (walk-forward validation), so that they are best over all of them.

A blend is `(1 - w_history) * trees + w_history * history + w_text * text`, in log-odds. Its weights minimize the mean
log loss of several blocks of the newest training bids, each scored by components that learned from older bids only;
newer blocks count more, none decides alone. Then they are shrunk towards 0 until no block is worse than with the trees
alone by more than its standard error. The components are in `gradient_boosting`, `history_logistic_regression` and
`text_logistic_regression`. Imports SciPy: import this module only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from bid_assets.modelling.estimators.history_logistic_regression import FloatArray, expit
from bid_assets.modelling.evaluation.metrics import Labels, log_losses_of_log_odds
from bid_assets.modelling.parameters import TrainingParameters

BLOCKS = 3
"""Forward blocks, where each can have enough bids of either class."""
RECENCY = 3.0
"""Weight of a block relative to the one before it: its components have more training bids, and it is nearer to the bids
to come."""
SHRINKAGE_STEPS = 20
"""Steps from the weights that are best on all blocks to none."""

Times = npt.NDArray[np.int64]


class ForwardBlock(NamedTuple):
    """Validation rows, and the older rows that components are fitted to."""

    train: Labels
    validation: Labels
    begin: int
    """When the block begins, microseconds; nothing known later is used."""


class Weights(NamedTuple):
    """Blend weights of the components other than the trees."""

    history: float = 0.0
    text: float = 0.0


@dataclass(frozen=True, eq=False)
class ComponentLogOdds:
    """Log-odds of each component for the rows of a block, shape (rows,), and the labels; 0 for a component that is absent."""

    trees: FloatArray
    history: FloatArray
    text: FloatArray
    success: Labels

    def blend(self, weights: Weights) -> FloatArray:
        """The log-odds of the blend."""
        return (1 - weights.history) * self.trees + weights.history * self.history + weights.text * self.text

    def is_worse_than_trees(self, weights: Weights) -> bool:
        """Whether the blend is worse here than the trees alone by more than the standard error of the difference."""
        difference = log_losses_of_log_odds(self.success, self.blend(weights)) - log_losses_of_log_odds(
            self.success, self.trees
        )
        return bool(difference.mean() > difference.std() / np.sqrt(len(difference)))


def forward_blocks(submitted: Times, known: Times, success: Labels, parameters: TrainingParameters) -> list[ForwardBlock]:
    """At most `BLOCKS` blocks of the newest rows, oldest first; rows are in order of `submitted`.

    Each has at least its part of `validation_share` of the rows, all rows of its first moment, and `min_per_class` of
    either class, if older rows have both classes too. No training row became known after its block begins, unless that
    would leave fewer than `min_per_class` of a class. Empty where no older part has both classes.
    """
    min_rows = max(1, round(len(success) * parameters.validation_share / BLOCKS))
    blocks: list[ForwardBlock] = []
    end = len(success)
    while len(blocks) < BLOCKS and end > min_rows:
        begin = _begin(submitted, success[:end], min_rows, parameters.min_per_class)
        moment = submitted[begin]
        train = (submitted < moment) & (known < moment)
        if not _has_both_classes(success[train], parameters.min_per_class):
            train = submitted < moment
        if not _has_both_classes(success[train], 1):
            break
        validation = np.zeros(len(success), dtype=bool)
        validation[begin:end] = True
        blocks.insert(0, ForwardBlock(train, validation, int(moment)))
        end = begin
    return blocks


def _begin(submitted: Times, success: Labels, min_rows: int, min_per_class: int) -> int:
    """The first row of the smallest newest part of the rows that has so many rows, and so many of either class.

    At most half of the rows are taken for the sake of a class: what was decided soon is mostly of one.
    """
    for label in (success, ~success):
        enough = int(np.searchsorted(np.cumsum(label[::-1]), min_per_class)) + 1
        min_rows = max(min_rows, min(enough, len(success) // 2))
    return int(np.searchsorted(submitted, submitted[len(success) - min_rows]))


def _has_both_classes(success: Labels, min_count: int) -> bool:
    return bool(min(success.sum(), (~success).sum()) >= min_count)


def recency_weights(blocks: int) -> FloatArray:
    """How much each block counts, oldest first; together 1."""
    weights = RECENCY ** np.arange(blocks)
    return np.asarray(weights / weights.sum())


def blend_weights(blocks: Sequence[ComponentLogOdds], limits: Weights) -> Weights:
    """The weights, between 0 and `limits`, that minimize the mean log loss of the blocks and make none of them worse."""
    block_weights = recency_weights(len(blocks))

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        candidate, total, gradient = Weights(*weights), 0.0, np.zeros(2)
        for block, block_weight in zip(blocks, block_weights, strict=True):
            log_odds = block.blend(candidate)
            residual = expit(log_odds) - block.success
            slopes = [np.mean(residual * (block.history - block.trees)), np.mean(residual * block.text)]
            total, gradient = (
                total + block_weight * np.mean(log_losses_of_log_odds(block.success, log_odds)),
                gradient + block_weight * np.array(slopes),
            )
        return float(total), gradient

    best = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(0.0, limit) for limit in limits]).x
    for step in range(SHRINKAGE_STEPS, 0, -1):
        weights = Weights(*(round(float(weight) * step / SHRINKAGE_STEPS, 2) for weight in best))
        if not any(block.is_worse_than_trees(weights) for block in blocks):
            return weights
    return Weights()
