"""From a training dataset to a model. Imports XGBoost: import this module only where a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from bid_assets.features.interval_counts import microseconds
from bid_assets.modelling.dataset.assemble import KEY_COLUMNS, columns_with_texts, feature_columns, labels, of_split
from bid_assets.modelling.estimators import (
    calibration,
    column_encoders,
    history_logistic_regression,
    target_statistics,
    text_logistic_regression,
    threshold,
)
from bid_assets.modelling.estimators.blend import Components, ForwardBlock, Weights, blend_weights, forward_blocks, recency
from bid_assets.modelling.estimators.gradient_boosting import Learner, best_rounds, column_weights
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.metrics import Labels
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import TrainingParameters

[RATING] = column_encoders.TargetStatistic.names

SELECTION_ROWS = 200_000
"""Of more older rows every second, third, ... is learnt from to choose rounds and weights: the choice needs no more."""


class NotTrainable(Exception):
    """There is not enough to learn from; the message says what is lacking, in words."""


def train(dataset: pa.Table, parameters: TrainingParameters, encoder_fingerprint: str | None = None) -> BidSuccessModel:
    """A model of the dataset's `train` rows; the same dataset and parameters give the same `content_hash`.

    Number of trees, weights of the blend, calibration and threshold are chosen on forward blocks of these rows, by components that have not
    seen them; the model's own are then fitted to all of them. Raises `NotTrainable` where there are too few outcomes, or only one
    kind of outcome.
    """
    dataset = dataset.select(columns_read(dataset.schema, parameters))
    refuse_untrainable(dataset, parameters)
    material = _Material.of(of_split(dataset, "train"), feature_columns(dataset), parameters)
    success = material.success
    submitted, known = (microseconds(material.rows[name]) for name in ("submitted_at", "outcome_timestamp"))
    blocks = forward_blocks(submitted, known, success, parameters)
    if not blocks:
        raise NotTrainable("the older part of the training bids has one kind of outcome only: nothing to tell apart")
    selection, log_odds = material.selected(blocks)
    uncalibrated = material.model(selection, encoder_fingerprint)
    validated = [success[block.validation] for block in blocks]
    calibrated = calibration.calibration_that_wins(parameters.calibration, list(zip(log_odds, validated, strict=True)))
    of_blocks = np.concatenate(validated)
    best_threshold = threshold.choose(
        of_blocks, calibrated.probability(np.concatenate(log_odds)), parameters, metrics.success_is_rarer(success)
    )
    facts = {
        **uncalibrated.training,
        "train_rows": len(success),
        "train_label_rate": float(success.mean()),
        "forward_blocks": len(blocks),
        "fit_rows": int(blocks[0].fitted.sum()),
        "validation_rows": len(of_blocks),
        "validation_label_rate": float(of_blocks.mean()),
        "calibration": calibrated.kind,
    }
    model = replace(uncalibrated, calibration=calibrated, threshold=best_threshold, training=facts)
    return refitted(model, dataset) if parameters.refit_on_holdout else model


def refitted(model: BidSuccessModel, dataset: pa.Table) -> BidSuccessModel:
    """A twin of `model` that has learned from the holdout too, and from what became known while that was being filled.

    Immature bids stay out: of them mostly the successes are known. Rounds, weights of the blend, calibration and threshold are the
    judged model's, which it carries as `judged`.
    """
    material = _Material.of(of_split(dataset, "train", "embargo", "holdout"), feature_columns(dataset), model.parameters)
    weights = Weights(model.linear_weight, model.training["words_weight"])
    twin = material.model(_Selection(model.training["rounds"], weights), model.encoder_fingerprint)
    facts = {**model.training, "refitted_rows": len(material.success)}
    return replace(twin, calibration=model.calibration, threshold=model.threshold, training=facts, judged=model)


def columns_read(schema: pa.Schema, parameters: TrainingParameters) -> list[str]:
    """The columns of a dataset of this schema that `train` reads: whoever reads a file for it needs no others."""
    texts = [name for name in column_encoders.text_columns(schema) if name not in parameters.excluded]
    if not parameters.embeddings_in_model:
        texts = [name for name in texts if column_encoders.feature_kind(schema.field(name).type) != "vector"]
    return columns_with_texts(schema, texts)


def refuse_untrainable(dataset: pa.Table, parameters: TrainingParameters) -> None:
    """Raise `NotTrainable` unless there are enough labelled bids, and enough of both classes in training and in holdout.

    A dataset made without holdout has none to ask anything of.
    """
    if not dataset.num_rows:
        raise NotTrainable("the dataset has no labelled bid: no outcome of its bids was known at the cutoff")
    if dataset.num_rows < parameters.min_labelled_bids:
        raise NotTrainable(
            f"{dataset.num_rows} labelled bids; at least {parameters.min_labelled_bids} are wanted (min_labelled_bids)"
        )
    split, success = dataset["split"].to_numpy(), labels(dataset)
    judged = np.isin(split, ("holdout", "immature")).any()
    immature = int((split == "immature").sum())
    left_out = f"; {immature} are younger than the label maturity (label_maturity_days)" if immature else ""
    for name in ("train", "holdout") if judged else ("train",):
        successes, failures = (int((part & (split == name)).sum()) for part in (success, ~success))
        if min(successes, failures) < parameters.min_per_class:
            raise NotTrainable(
                f"the {name} part has {successes} successes and {failures} failures; "
                f"at least {parameters.min_per_class} of each are wanted (min_per_class){left_out}"
            )


class _Selection(NamedTuple):
    """What forward blocks have decided."""

    rounds: int
    weights: Weights


@dataclass(frozen=True, eq=False)
class _Material:
    """Rows and all that is learnt from: what trees and history see, and texts."""

    rows: pa.Table
    """Keys and texts: what trees and history see of them is in the matrix."""
    success: Labels
    texts: list[str]
    history_columns: list[str]
    encoders: tuple[column_encoders.ColumnEncoder, ...]
    matrix: column_encoders.Matrix
    ratings: target_statistics.RatingHistory | None
    """Behind the last column of the matrix; None: there is no rating."""
    parameters: TrainingParameters

    @classmethod
    def of(cls, rows: pa.Table, columns: Sequence[str], parameters: TrainingParameters) -> _Material:
        """Raises `NotTrainable` where there is no column but texts."""
        columns = [name for name in columns if name not in parameters.excluded]
        texts = [name for name in column_encoders.text_columns(rows.schema) if name in columns]
        encoders = column_encoders.fit_encoders(
            rows, [name for name in columns if name not in texts], vocabulary_size=parameters.vocabulary_size
        )
        if not encoders:
            raise NotTrainable("the dataset has no feature column" + (" but texts" if texts else ""))
        rated = RATING not in parameters.excluded
        matrix = column_encoders.encode(rows, encoders, extra_columns=int(rated))
        history, kept = history_logistic_regression.history_columns(rows), rows.select([*KEY_COLUMNS, *texts])
        material = cls(kept, labels(rows), texts, history, encoders, matrix, None, parameters)
        return material.with_ratings() if rated else material

    def with_ratings(self) -> _Material:
        """The same with the ratings of the profiles, as they were when the bids were made, in the last column."""
        seen = [number for number in range(self.matrix.shape[1] - 1) if number not in self.history]
        weights = column_weights(self.encoders)[seen]
        ratings = target_statistics.RatingHistory.of(
            self.rows, target_statistics.expected_of_each(self.matrix[:, seen], self.rows, weights, self.parameters)
        )
        self.matrix[:, -1] = ratings.at_submission()
        return replace(self, encoders=(*self.encoders, ratings.latest()), ratings=ratings)

    def selected(self, blocks: Sequence[ForwardBlock]) -> tuple[_Selection, list[history_logistic_regression.Vector]]:
        """What is best on the blocks, with components that have learned from older rows only, and the log-odds that these give them."""
        matrices = [self._validating(block) for block in blocks]
        boosted = [
            self.learner.validated(_some_of(block.fitted), matrix, self.success[block.validation])
            for block, matrix in zip(blocks, matrices, strict=True)
        ]
        rounds = best_rounds(boosted, recency(len(blocks)))
        components = []
        for block, matrix, trees in zip(blocks, matrices, boosted, strict=True):
            fitted, of_trees = _some_of(block.fitted), trees.log_odds(matrix, rounds)
            history, text = of_trees, np.zeros(len(matrix))
            if self.history and self.parameters.max_linear_weight:
                history = history_logistic_regression.fit(self.matrix[fitted], self.success[fitted], self.history).log_odds(
                    matrix
                )
            if self.texts and self.parameters.max_words_weight:
                scores = text_logistic_regression.fit_text_regression(self.text_columns, np.flatnonzero(fitted), self.success)
                text = text_logistic_regression.predict_log_odds(
                    self.rows.select(self.texts).filter(pa.array(block.validation)), scores
                )
            components.append(Components(of_trees, history, text, self.success[block.validation]))
        weights = blend_weights(components, Weights(self.parameters.max_linear_weight, self.parameters.max_words_weight))
        return _Selection(rounds, weights), [each.blended(weights) for each in components]

    def _validating(self, block: ForwardBlock) -> column_encoders.Matrix:
        """The rows of a block as the model would see them: with the ratings of when the block begins."""
        matrix = self.matrix[block.validation]
        if self.ratings is not None:
            matrix[:, -1] = self.ratings.at_submission(block.begin)[block.validation]
        return matrix

    def model(self, selection: _Selection, encoder_fingerprint: str | None) -> BidSuccessModel:
        """The model of all rows; not calibrated, and its threshold yet to be chosen."""
        rounds, weights = selection
        line = history_logistic_regression.fit(self.matrix, self.success, self.history) if weights.history else None
        scores = (
            text_logistic_regression.fit_text_regression(self.text_columns, np.arange(len(self.success)), self.success)
            if weights.text
            else ()
        )
        return BidSuccessModel(
            (*self.encoders, *text_logistic_regression.scale(scores, weights.text)),
            self.learner.fitted_to_all(rounds).saved(),
            line,
            weights.history,
            threshold=0.5,
            encoder_fingerprint=encoder_fingerprint if column_encoders.reads_embeddings(scores) else None,
            parameters=self.parameters,
            training={
                "rounds": rounds,
                "words": sum(len(score.tokens) for score in scores if isinstance(score, column_encoders.TokenLogit)),
                "words_weight": weights.text,
                "rated_profiles": len(self.ratings.profiles) if self.ratings is not None else 0,
            },
        )

    @cached_property
    def learner(self) -> Learner:
        return Learner(self.matrix, self.success, column_weights(self.encoders), self.parameters)

    @cached_property
    def text_columns(self) -> list[text_logistic_regression.TextColumn]:
        return [text_logistic_regression.TextColumn.from_table(self.rows, name) for name in self.texts]

    @cached_property
    def history(self) -> list[int]:
        """Where in the matrix the profile's history stands, its rating too."""
        columns = {*self.history_columns, column_encoders.TargetStatistic.column}
        sources = [encoder.column for encoder in self.encoders for _ in encoder.names]
        return [number for number, source in enumerate(sources) if source in columns]


def _some_of(rows: Labels) -> Labels:
    """These rows, of very many every second, third, ... ."""
    places = np.flatnonzero(rows)
    some = np.zeros_like(rows)
    some[places[:: max(1, -(-len(places) // SELECTION_ROWS))]] = True
    return some
