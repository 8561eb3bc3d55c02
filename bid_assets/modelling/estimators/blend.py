"""The blend: log-odds of trees, of the history and of texts, with weights that forward blocks of time choose.

A blend is `(1 - w_history) * trees + w_history * history + w_text * text`, in log-odds. Its weights minimize the mean
log loss of several blocks of the newest training bids, each scored by components that learned from older bids only
(walk-forward validation); newer blocks count more, none decides alone. Then they are shrunk towards 0 until no block is
worse than with the trees alone by more than its standard error. The components are in `gradient_boosting`,
`history_logistic_regression` and `text_logistic_regression`. Imports XGBoost, scikit-learn and SciPy: import this
module only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data
from xgboost import Booster, XGBClassifier

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.estimators.base import LogOddsClassifier, binary_labels
from bid_assets.modelling.estimators.column_encoders import Matrix
from bid_assets.modelling.estimators.gradient_boosting import (
    best_rounds,
    boosted_trees,
    fit_rounds,
    fit_with_early_stopping,
    log_odds_after,
)
from bid_assets.modelling.estimators.history_logistic_regression import fit_history_regression
from bid_assets.modelling.estimators.linear_logit import expit
from bid_assets.modelling.estimators.target_statistics import OrderedTargetStatistic
from bid_assets.modelling.estimators.text_logistic_regression import TextColumn, TextLogisticRegression
from bid_assets.modelling.evaluation.metrics import Labels, log_losses_of_log_odds
from bid_assets.modelling.parameters import NotTrainableError, TrainingParameters

BLOCKS = 3
"""Forward blocks, where each can have enough bids of either class."""
RECENCY = 3.0
"""Weight of a block relative to the one before it: its components have more training bids, and it is nearer to the bids
to come."""
SHRINKAGE_STEPS = 20
"""Steps from the weights that are best on all blocks to none."""
SELECTION_ROWS = 100_000
"""More training rows of a forward block are subsampled to choose rounds and blend weights: the choice needs no more."""

Times = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]


class ForwardBlock(NamedTuple):
    """Indices of validation rows, in order of time, and of the older rows that components are fitted to."""

    train: Rows
    validation: Rows
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
    success: Labels = field(default_factory=lambda: np.empty(0, dtype=bool))

    def blend(self, weights: Weights) -> FloatArray:
        """The log-odds of the blend."""
        return (1 - weights.history) * self.trees + weights.history * self.history + weights.text * self.text

    def is_worse_than_trees(self, weights: Weights) -> bool:
        """Whether the blend is worse here than the trees alone by more than the standard error of the difference."""
        difference = log_losses_of_log_odds(self.success, self.blend(weights)) - log_losses_of_log_odds(
            self.success, self.trees
        )
        return bool(difference.mean() > difference.std() / np.sqrt(len(difference)))


def forward_blocks(
    submitted: Times, known: Times, success: Labels, validation_share: float, min_per_class: int
) -> list[ForwardBlock]:
    """At most `BLOCKS` blocks of the newest rows, oldest first.

    Each has at least its part of `validation_share` of the rows, all rows of its first moment, and `min_per_class` of
    either class, if older rows have both classes too. No training row became known after its block begins, unless that
    would leave fewer than `min_per_class` of a class. Empty where no older part has both classes.
    """
    order = np.argsort(submitted, kind="stable")
    in_order, labels_in_order = submitted[order], success[order]
    min_rows = max(1, round(len(success) * validation_share / BLOCKS))
    blocks: list[ForwardBlock] = []
    end = len(success)
    while len(blocks) < BLOCKS and end > min_rows:
        begin = _begin(in_order, labels_in_order[:end], min_rows, min_per_class)
        moment = in_order[begin]
        train = (submitted < moment) & (known < moment)
        if not _has_both_classes(success[train], min_per_class):
            train = submitted < moment
        if not _has_both_classes(success[train], 1):
            break
        blocks.insert(0, ForwardBlock(np.flatnonzero(train), order[begin:end], int(moment)))
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


class LogOddsBlend(LogOddsClassifier):
    """Blend of three classifiers: trees, and where they are given, the history and texts.

    `trees`: an `XGBClassifier` with early stopping. `history`: a pipeline that reads `history_columns` of the matrix.
    `text`: reads the `TextColumn`s. None: the default trees; no such component. Rounds and `weights_` are chosen on
    forward blocks, by components fitted to older rows; the components that score are then fitted to all rows.
    """

    def __init__(
        self,
        trees: XGBClassifier | None = None,
        history: Pipeline | None = None,
        text: TextLogisticRegression | None = None,
        history_columns: Sequence[int] = (),
        max_history_weight: float = TrainingParameters.max_linear_weight,
        max_text_weight: float = TrainingParameters.max_words_weight,
        validation_share: float = TrainingParameters.validation_share,
        min_per_class: int = TrainingParameters.min_per_class,
    ) -> None:
        self.trees = trees
        self.history = history
        self.text = text
        self.history_columns = history_columns
        self.max_history_weight = max_history_weight
        self.max_text_weight = max_text_weight
        self.validation_share = validation_share
        self.min_per_class = min_per_class

    def fit(
        self,
        X: Matrix,
        y: Any,
        *,
        submitted: Times | None = None,
        known: Times | None = None,
        texts: Sequence[TextColumn] = (),
        statistic: OrderedTargetStatistic | None = None,
    ) -> LogOddsBlend:
        """Choose rounds and weights, then `refit`. X: shape (rows, features), NaN where missing.

        Rows were `submitted` and their labels `known` at these times (microseconds); by default, in their order.
        `statistic` is what the last column of X was made of: a block is scored with the statistics of its begin.
        Raises `NotTrainableError` where no older part of the rows has both classes.
        """
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite="allow-nan", ensure_min_samples=2)
        self.classes_, success = binary_labels(y)
        submitted = np.arange(len(X)) if submitted is None else submitted
        blocks = forward_blocks(
            submitted, submitted if known is None else known, success, self.validation_share, self.min_per_class
        )
        if not blocks:
            raise NotTrainableError("the older part of the training bids has one class only: nothing to tell apart")
        self.fit_rows_ = len(blocks[0].train)
        components = self._validate(X, success, blocks, texts, statistic)
        self.weights_ = blend_weights(components, Weights(self.max_history_weight, self.max_text_weight))
        self.validation_ = [(each.blend(self.weights_), each.success) for each in components]
        """Log-odds and labels of each block."""
        return self.refit(X, y, texts)

    def refit(self, X: Matrix, y: Any, texts: Sequence[TextColumn] = ()) -> LogOddsBlend:
        """Fit the components to these rows; rounds and weights stay."""
        self.classes_, success = binary_labels(y)
        self.trees_ = fit_rounds(self._trees, X, success, self.rounds_)
        self.history_ = self.text_ = None
        if self.weights_.history:
            self.history_ = fit_history_regression(clone(self.history), X[:, self.history_columns], success)
        if self.weights_.text:
            self.text_ = clone(self.text).fit(texts, success)
        return self

    def decision_function(self, X: Matrix, texts: Sequence[TextColumn] = ()) -> FloatArray:
        """Log-odds of `classes_[1]`, shape (rows,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
        return self._components(X, texts, self.trees_.get_booster(), self.history_, self.text_).blend(self.weights_)

    def _validate(
        self,
        X: Matrix,
        success: Labels,
        blocks: Sequence[ForwardBlock],
        texts: Sequence[TextColumn],
        statistic: OrderedTargetStatistic | None,
    ) -> list[ComponentLogOdds]:
        """The log-odds of the validation rows of each block, by components fitted to older rows. Sets `rounds_`."""

        def validation(block: ForwardBlock) -> Matrix:
            matrix = X[block.validation]
            if statistic is not None:
                matrix[:, -1] = statistic.at_submission(block.begin)[block.validation]
            return matrix

        trains = [_every_nth(block.train) for block in blocks]
        boosted = [
            fit_with_early_stopping(self._trees, X[train], success[train], (validation(block), success[block.validation]))
            for block, train in zip(blocks, trains, strict=True)
        ]
        self.rounds_ = best_rounds(boosted, recency_weights(len(blocks)))
        components = []
        for block, train, (booster, _) in zip(blocks, trains, boosted, strict=True):
            matrix, history, text = validation(block), None, None
            if self.history is not None and len(self.history_columns) and self.max_history_weight:
                numbers = X[np.ix_(train, np.array(self.history_columns))]
                history = fit_history_regression(clone(self.history), numbers, success[train])
            if self.text is not None and texts and self.max_text_weight:
                text = clone(self.text).fit([each[train] for each in texts], success[train])
            scored = self._components(matrix, [each[block.validation] for each in texts], booster, history, text)
            components.append(replace(scored, success=success[block.validation]))
        return components

    def _components(
        self,
        X: Matrix,
        texts: Sequence[TextColumn],
        booster: Booster,
        history: Pipeline | None,
        text: TextLogisticRegression | None,
    ) -> ComponentLogOdds:
        of_trees = log_odds_after(booster, X, self.rounds_)
        return ComponentLogOdds(
            of_trees,
            of_trees if history is None else history.decision_function(X[:, self.history_columns]),
            np.zeros(len(X)) if text is None else text.decision_function(texts),
        )

    @property
    def _trees(self) -> XGBClassifier:
        return boosted_trees(TrainingParameters()) if self.trees is None else self.trees


def _every_nth(rows: Rows) -> Rows:
    """The rows; if there are more than `SELECTION_ROWS`, every n-th of them."""
    return rows[:: max(1, -(-len(rows) // SELECTION_ROWS))]
