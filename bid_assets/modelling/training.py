"""From a training dataset to a model. Imports XGBoost: import this module only where a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bid_assets.features.interval_counts import microseconds
from bid_assets.modelling.dataset.assemble import KEY_COLUMNS, columns_with_texts, feature_columns, labels, rows_in_split
from bid_assets.modelling.estimators import (
    calibration,
    column_encoders,
    history_logistic_regression,
    target_statistics,
    text_logistic_regression,
    threshold,
)
from bid_assets.modelling.estimators.blend import (
    ComponentLogOdds,
    ForwardBlock,
    Weights,
    blend_weights,
    forward_blocks,
    recency_weights,
)
from bid_assets.modelling.estimators.gradient_boosting import BoosterTrainer, best_rounds, column_weights
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.metrics import Labels
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import TrainingParameters

[TARGET_STATISTIC] = column_encoders.TargetStatistic.names

SELECTION_ROWS = 100_000
"""More training rows of a forward block are subsampled to choose rounds and blend weights: the choice needs no more."""


class NotTrainableError(Exception):
    """There is not enough data to train a model; the message says what is lacking."""


def train(dataset: pa.Table, parameters: TrainingParameters, encoder_fingerprint: str | None = None) -> BidSuccessModel:
    """Train a model on the dataset's `train` rows; the same dataset and parameters give the same `content_hash`.

    Number of trees, weights of the blend, calibration and threshold are chosen on forward blocks of these rows, by
    components that have not seen them; the model's own are then fitted to all of them. Raises `NotTrainableError` where
    there are too few outcomes, or only one kind of outcome.
    """
    dataset = dataset.select(columns_to_read(dataset.schema, parameters))
    refuse_untrainable(dataset, parameters)
    training_matrix = _TrainingMatrix.from_rows(rows_in_split(dataset, "train"), feature_columns(dataset), parameters)
    success = training_matrix.success
    submitted, known = (microseconds(training_matrix.rows[name]) for name in ("submitted_at", "outcome_timestamp"))
    blocks = forward_blocks(submitted, known, success, parameters)
    if not blocks:
        raise NotTrainableError("the older part of the training bids has one kind of outcome only: nothing to tell apart")
    selection, log_odds = training_matrix.select_on_validation(blocks)
    uncalibrated = training_matrix.model(selection, encoder_fingerprint)
    labels_of_blocks = [success[block.validation] for block in blocks]
    calibrated = calibration.select_calibration(parameters.calibration, list(zip(log_odds, labels_of_blocks, strict=True)))
    validation_labels = np.concatenate(labels_of_blocks)
    best_threshold = threshold.choose_threshold(
        validation_labels, calibrated.probability(np.concatenate(log_odds)), parameters, metrics.success_is_rarer(success)
    )
    facts = {
        **uncalibrated.training,
        "train_rows": len(success),
        "train_label_rate": float(success.mean()),
        "forward_blocks": len(blocks),
        "fit_rows": int(blocks[0].train.sum()),
        "validation_rows": len(validation_labels),
        "validation_label_rate": float(validation_labels.mean()),
        "calibration": calibrated.method,
    }
    model = replace(uncalibrated, calibration=calibrated, threshold=best_threshold, training=facts)
    return refit_with_holdout(model, dataset) if parameters.refit_on_holdout else model


def refit_with_holdout(model: BidSuccessModel, dataset: pa.Table) -> BidSuccessModel:
    """Refit `model` on training, embargo and holdout rows.

    Immature bids stay out: of them mostly the successes are known. Rounds, blend weights, calibration and threshold are
    those of `model`, which becomes `holdout_model` of the refit model.
    """
    training_matrix = _TrainingMatrix.from_rows(
        rows_in_split(dataset, "train", "embargo", "holdout"), feature_columns(dataset), model.parameters
    )
    weights = Weights(model.history_weight, model.training["words_weight"])
    refit = training_matrix.model(_BlendSelection(model.training["rounds"], weights), model.encoder_fingerprint)
    facts = {**model.training, "refitted_rows": len(training_matrix.success)}
    return replace(refit, calibration=model.calibration, threshold=model.threshold, training=facts, holdout_model=model)


def columns_to_read(schema: pa.Schema, parameters: TrainingParameters) -> list[str]:
    """The columns of a dataset of this schema that `train` reads: whoever reads a file for it needs no others."""
    texts = [name for name in column_encoders.text_columns(schema) if name not in parameters.excluded]
    if not parameters.embeddings_in_model:
        texts = [name for name in texts if column_encoders.feature_kind(schema.field(name).type) != "vector"]
    return columns_with_texts(schema, texts)


def refuse_untrainable(dataset: pa.Table, parameters: TrainingParameters) -> None:
    """Raise `NotTrainableError` unless there are enough labelled bids, and enough of both classes in training and in holdout.

    A dataset without holdout is not checked for one.
    """
    if not dataset.num_rows:
        raise NotTrainableError("the dataset has no labelled bid: no outcome of its bids was known at the cutoff")
    if dataset.num_rows < parameters.min_labelled_bids:
        raise NotTrainableError(
            f"{dataset.num_rows} labelled bids; at least {parameters.min_labelled_bids} are required (min_labelled_bids)"
        )
    split, success = dataset["split"].to_numpy(), labels(dataset)
    has_holdout = np.isin(split, ("holdout", "immature")).any()
    immature = int((split == "immature").sum())
    left_out = f"; {immature} are younger than the label maturity (label_maturity_days)" if immature else ""
    for name in ("train", "holdout") if has_holdout else ("train",):
        successes, failures = (int((part & (split == name)).sum()) for part in (success, ~success))
        if min(successes, failures) < parameters.min_per_class:
            raise NotTrainableError(
                f"the {name} part has {successes} successes and {failures} failures; "
                f"at least {parameters.min_per_class} of each are required (min_per_class){left_out}"
            )


class _BlendSelection(NamedTuple):
    """Number of rounds and blend weights, as selected on forward blocks."""

    rounds: int
    weights: Weights


@dataclass(frozen=True, eq=False)
class _TrainingMatrix:
    """The training rows with the matrix that trees and history regression read, and the texts."""

    rows: pa.Table
    """Key columns and texts; the other features are in the matrix."""
    success: Labels
    texts: list[str]
    history_columns: list[str]
    encoders: tuple[column_encoders.ColumnEncoder, ...]
    matrix: column_encoders.Matrix
    target_statistic: target_statistics.OrderedTargetStatistic | None
    """Behind the last column of the matrix; None: it is excluded."""
    parameters: TrainingParameters

    @classmethod
    def from_rows(cls, rows: pa.Table, columns: Sequence[str], parameters: TrainingParameters) -> _TrainingMatrix:
        """Raises `NotTrainableError` where there is no column but texts."""
        columns = [name for name in columns if name not in parameters.excluded]
        texts = [name for name in column_encoders.text_columns(rows.schema) if name in columns]
        encoders = column_encoders.fit_encoders(
            rows, [name for name in columns if name not in texts], vocabulary_size=parameters.vocabulary_size
        )
        if not encoders:
            raise NotTrainableError("the dataset has no feature column" + (" but texts" if texts else ""))
        with_statistic = TARGET_STATISTIC not in parameters.excluded
        matrix = column_encoders.encode(rows, encoders, extra_columns=int(with_statistic))
        history, kept = history_logistic_regression.history_columns(rows), rows.select([*KEY_COLUMNS, *texts])
        training_matrix = cls(kept, labels(rows), texts, history, encoders, matrix, None, parameters)
        return training_matrix.with_target_statistics() if with_statistic else training_matrix

    def with_target_statistics(self) -> _TrainingMatrix:
        """The same with the target statistics of the profiles, as of the submission of each bid, in the last column."""
        columns = [number for number in range(self.matrix.shape[1] - 1) if number not in self.history]
        weights = column_weights(self.encoders)[columns]
        statistic = target_statistics.OrderedTargetStatistic.from_rows(
            self.rows, target_statistics.cross_fitted_expectation(self.matrix[:, columns], self.rows, weights, self.parameters)
        )
        self.matrix[:, -1] = statistic.at_submission()
        return replace(self, encoders=(*self.encoders, statistic.latest()), target_statistic=statistic)

    def select_on_validation(
        self, blocks: Sequence[ForwardBlock]
    ) -> tuple[_BlendSelection, list[history_logistic_regression.FloatArray]]:
        """The selection that is best on the blocks, by components fitted to older rows only, and the blended log-odds
        of each block."""
        matrices = [self._validation_matrix(block) for block in blocks]
        boosted = [
            self.trainer.fit_with_early_stopping(_every_nth(block.train), matrix, self.success[block.validation])
            for block, matrix in zip(blocks, matrices, strict=True)
        ]
        rounds = best_rounds(boosted, recency_weights(len(blocks)))
        components = []
        for block, matrix, trees in zip(blocks, matrices, boosted, strict=True):
            train_rows, of_trees = _every_nth(block.train), trees.log_odds(matrix, rounds)
            history, text = of_trees, np.zeros(len(matrix))
            if self.history and self.parameters.max_linear_weight:
                history = history_logistic_regression.fit_history_regression(
                    self.matrix[train_rows], self.success[train_rows], self.history
                ).log_odds(matrix)
            if self.texts and self.parameters.max_words_weight:
                scores = text_logistic_regression.fit_text_regression(
                    self.text_columns, np.flatnonzero(train_rows), self.success
                )
                text = text_logistic_regression.predict_log_odds(
                    self.rows.select(self.texts).filter(pa.array(block.validation)), scores
                )
            components.append(ComponentLogOdds(of_trees, history, text, self.success[block.validation]))
        weights = blend_weights(components, Weights(self.parameters.max_linear_weight, self.parameters.max_words_weight))
        return _BlendSelection(rounds, weights), [each.blend(weights) for each in components]

    def _validation_matrix(self, block: ForwardBlock) -> column_encoders.Matrix:
        """The matrix of the validation rows of a block, with the target statistics as of its begin."""
        matrix = self.matrix[block.validation]
        if self.target_statistic is not None:
            matrix[:, -1] = self.target_statistic.at_submission(block.begin)[block.validation]
        return matrix

    def model(self, selection: _BlendSelection, encoder_fingerprint: str | None) -> BidSuccessModel:
        """Fit to all rows; not calibrated, threshold not chosen yet."""
        rounds, weights = selection
        history_logit = (
            history_logistic_regression.fit_history_regression(self.matrix, self.success, self.history)
            if weights.history
            else None
        )
        scores = (
            text_logistic_regression.fit_text_regression(self.text_columns, np.arange(len(self.success)), self.success)
            if weights.text
            else ()
        )
        return BidSuccessModel(
            (*self.encoders, *text_logistic_regression.scale(scores, weights.text)),
            self.trainer.fit_all_rows(rounds).to_ubjson(),
            history_logit,
            weights.history,
            threshold=0.5,
            encoder_fingerprint=encoder_fingerprint if column_encoders.reads_embeddings(scores) else None,
            parameters=self.parameters,
            training={
                "rounds": rounds,
                "words": sum(len(score.tokens) for score in scores if isinstance(score, column_encoders.TokenLogit)),
                "words_weight": weights.text,
                "rated_profiles": len(self.target_statistic.profiles) if self.target_statistic is not None else 0,
            },
        )

    @cached_property
    def trainer(self) -> BoosterTrainer:
        return BoosterTrainer(self.matrix, self.success, column_weights(self.encoders), self.parameters)

    @cached_property
    def text_columns(self) -> list[text_logistic_regression.TextColumn]:
        return [text_logistic_regression.TextColumn.from_table(self.rows, name) for name in self.texts]

    @cached_property
    def history(self) -> list[int]:
        """The matrix columns of the profile's history, with its target statistic."""
        columns = {*self.history_columns, column_encoders.TargetStatistic.column}
        sources = [encoder.column for encoder in self.encoders for _ in encoder.names]
        return [number for number, source in enumerate(sources) if source in columns]


def _every_nth(rows: Labels) -> Labels:
    """The mask `rows`; if it has more than `SELECTION_ROWS`, every n-th of them."""
    places = np.flatnonzero(rows)
    subsample = np.zeros_like(rows)
    subsample[places[:: max(1, -(-len(places) // SELECTION_ROWS))]] = True
    return subsample
