"""From a training dataset to a model. Imports XGBoost: import this module only where a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.modelling import calibration, evidence, linear, metrics, preprocess, rating, thresholds, words
from bid_assets.modelling.boosting import Learner, column_weights
from bid_assets.modelling.dataset import feature_columns
from bid_assets.modelling.metrics import Labels
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import TrainingParameters

[RATING] = preprocess.Rating.names


class NotTrainable(Exception):
    """There is not enough to learn from; the message says what is lacking, in words."""


def train(dataset: pa.Table, parameters: TrainingParameters, encoder_fingerprint: str | None = None) -> BidSuccessModel:
    """A model of the dataset's `train` rows; the same dataset and parameters give the same `content_hash`.

    Number of trees, weights of the lines and of the words, and threshold are found on the newest part of these rows with parts that have
    not seen it; the model's own are then fitted to all of them. The dataset's `calibration` rows calibrate it. Raises `NotTrainable` where there are too few outcomes, or
    only one kind of outcome.
    """
    refuse_untrainable(dataset, parameters)
    rows, aside = (dataset.filter(pc.equal(dataset["split"], name)) for name in ("train", "calibration"))
    material, ratings_aside = _Material.rated(rows, aside, feature_columns(rows), parameters)
    success = material.success
    fitted, validation = time_ordered_parts(*_times(rows), success, parameters)
    found, log_odds = material.weighed(fitted, validation)
    uncalibrated = material.model(found, encoder_fingerprint)
    calibrated, calibration_facts = _calibrated(uncalibrated, aside, ratings_aside)
    threshold = thresholds.choose(
        success[validation], calibrated.probability(log_odds), parameters, metrics.success_is_rarer(success)
    )
    facts = {
        **uncalibrated.training,
        "train_rows": len(success),
        "train_label_rate": float(success.mean()),
        "fit_rows": int(fitted.sum()),
        "validation_rows": int(validation.sum()),
        "validation_label_rate": float(success[validation].mean()),
        **calibration_facts,
    }
    model = replace(uncalibrated, calibration=calibrated, threshold=threshold, training=facts)
    return refitted(model, dataset) if parameters.refit_after_judging else model


def refitted(model: BidSuccessModel, dataset: pa.Table) -> BidSuccessModel:
    """A twin of `model` that has learned from the holdout too, and from what became known while that was being filled.

    Immature bids stay out: of them mostly the successes are known. Rounds, weights of lines and words, calibration and threshold are the judged model's, which it carries as `judged`. Rows that
    calibrate still train nothing.
    """
    learned = ["train", "embargo", "holdout"]
    rows = dataset.filter(pc.is_in(dataset["split"], value_set=pa.array(learned)))
    aside = dataset.filter(pc.equal(dataset["split"], "calibration"))
    material, _ = _Material.rated(rows, aside, feature_columns(rows), model.parameters)
    found = _Found(model.training["rounds"], model.linear_weight, model.line_of_all_weight, model.training["words_weight"])
    twin = material.model(found, model.encoder_fingerprint)
    facts = {**model.training, "refitted_rows": len(material.success)}
    return replace(twin, calibration=model.calibration, threshold=model.threshold, training=facts, judged=model)


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
    split, success = dataset["split"].to_numpy(), np.asarray(dataset["target_is_success"], dtype=bool)
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


@dataclass(frozen=True)
class _Found:
    """What validation rows have decided."""

    rounds: int
    linear_weight: float
    line_of_all_weight: float
    words_weight: float


@dataclass(frozen=True, eq=False)
class _Material:
    """Rows and all that is learnt from: what trees see, what the line on everything sees, and documents."""

    rows: pa.Table
    success: Labels
    documents: list[str]
    encodings: tuple[preprocess.Encoding, ...]
    beyond: tuple[preprocess.Components, ...]
    """Components of embeddings that only the line on everything sees."""
    matrix: preprocess.Matrix
    """What the trees see, and `beyond`."""
    parameters: TrainingParameters

    @classmethod
    def rated(
        cls, rows: pa.Table, aside: pa.Table, columns: Sequence[str], parameters: TrainingParameters
    ) -> tuple[_Material, linear.Vector | None]:
        """The material with the ratings of the profiles of `rows`, and of `aside`, which train nothing; and the latter as they were.

        Raises `NotTrainable` where there is no column but documents.
        """
        made = cls.of(rows, [name for name in columns if name not in parameters.excluded], parameters)
        if RATING in parameters.excluded:
            return made, None
        both = pa.concat_tables([rows, aside])
        learns = np.arange(both.num_rows) < rows.num_rows
        seen = [number for number in range(len(made.learner.feature_weights)) if number not in made.history]
        matrix = np.vstack([made.matrix[:, seen], preprocess.encode(aside, made.encodings)[:, seen]])
        expected = rating.expected_of_each(matrix, both, learns, made.learner.feature_weights[seen], parameters)
        then, last = rating.rated(both, expected)
        rows_then, aside_then = np.split(then, [rows.num_rows])
        return made.with_rating(last, rows_then), aside_then

    @classmethod
    def of(cls, rows: pa.Table, columns: Sequence[str], parameters: TrainingParameters) -> _Material:
        """Without ratings. Raises `NotTrainable` where there is no column but documents."""
        documents = words.documents(rows, columns)
        found = preprocess.fit(
            rows,
            [name for name in columns if name not in documents],
            vocabulary_size=parameters.vocabulary_size,
            embedding_components=max(parameters.embedding_components, evidence.COMPONENTS),
        )
        if not found:
            raise NotTrainable("the dataset has no feature column" + (" but words" if documents else ""))
        encodings, beyond = preprocess.split_components(found, parameters.embedding_components)
        matrix = preprocess.encode(rows, (*encodings, *beyond))
        success = np.asarray(rows["target_is_success"], dtype=bool)
        return cls(rows, success, documents, encodings, beyond, matrix, parameters)

    def with_rating(self, last: preprocess.Rating, then: linear.Vector) -> _Material:
        """The same with one more number that trees and lines see: in these rows the rating as it was `then`."""
        place = len(column_weights(self.encodings))
        matrix = np.insert(self.matrix, place, then.astype(np.float32), axis=1)
        return replace(self, encodings=(*self.encodings, last), matrix=matrix)

    def weighed(self, fitted: Labels, validation: Labels) -> tuple[_Found, linear.Vector]:
        """What is best on the validation rows, with parts that have learned from `fitted` only, and the log-odds that these give them."""
        success, most = self.success[validation], self.parameters.max_linear_weight
        rounds, log_odds = self.learner.early_stopped(fitted, validation)
        weight = weight_of_all = words_weight = 0.0
        if self.history:
            said = linear.fit(self.matrix[fitted], self.success[fitted], self.history).log_odds(self.matrix[validation])
            weight = linear.best_weight(log_odds, said, success, most)
            log_odds = linear.blended(log_odds, said, weight)
        if most:
            said = evidence.fit(self.matrix[fitted], self.success[fitted], self.sources).log_odds(self.matrix[validation])
            new = _on_new_jobs(self.rows["job_id"], fitted, validation)
            fewest = self.parameters.min_per_class
            weight_of_all = linear.trusted_weight(log_odds[new], said[new], success[new], most, fewest)
            log_odds = linear.blended(log_odds, said, weight_of_all)
        if self.documents and self.parameters.max_words_weight:
            read = words.fit(self.rows.filter(pa.array(fitted)), self.documents, self.success[fitted])
            added = words.added(self.rows.filter(pa.array(validation)), read)
            words_weight = words.best_weight(log_odds, added, success, self.parameters.max_words_weight)
            log_odds = log_odds + words_weight * added
        return _Found(rounds, weight, weight_of_all, words_weight), log_odds

    def model(self, found: _Found, encoder_fingerprint: str | None) -> BidSuccessModel:
        """The model of all rows; not calibrated, and its threshold yet to be chosen."""
        line = linear.fit(self.matrix, self.success, self.history) if found.linear_weight else None
        line_of_all = evidence.fit(self.matrix, self.success, self.sources) if found.line_of_all_weight else None
        read = words.fit(self.rows, self.documents, self.success) if found.words_weight else ()
        return BidSuccessModel(
            (*self.encodings, *(self.beyond if line_of_all else ()), *words.scaled(read, found.words_weight)),
            self.learner.fitted_to_all(found.rounds),
            line,
            found.linear_weight,
            threshold=0.5,
            encoder_fingerprint=encoder_fingerprint,
            parameters=self.parameters,
            training={
                "rounds": found.rounds,
                "words": sum(len(score.words) for score in read),
                "words_weight": found.words_weight,
                "rated_profiles": sum(len(each.profiles) for each in self.encodings if isinstance(each, preprocess.Rating)),
            },
            line_of_all=line_of_all,
            line_of_all_weight=found.line_of_all_weight,
        )

    @cached_property
    def learner(self) -> Learner:
        weights = column_weights(self.encodings)
        return Learner(self.matrix[:, : len(weights)], self.success, weights, self.parameters)

    @cached_property
    def sources(self) -> list[str]:
        """The dataset's column that each column of the matrix comes from."""
        return [encoding.column for encoding in (*self.encodings, *self.beyond) for _ in encoding.names]

    @cached_property
    def history(self) -> list[int]:
        """Where in the matrix the profile's history stands, its rating too."""
        wanted = {*linear.history_columns(self.rows), preprocess.Rating.column}
        return [number for number, source in enumerate(self.sources) if source in wanted]


def _on_new_jobs(jobs: pa.ChunkedArray, fitted: Labels, validation: Labels) -> Labels:
    """Which of the validation rows are bids on jobs that no fitted row is about, as the bids to come mostly are."""
    seen = pc.is_in(jobs.filter(pa.array(validation)), value_set=jobs.filter(pa.array(fitted)).combine_chunks())
    return np.asarray(pc.invert(seen), dtype=bool)


def _calibrated(
    model: BidSuccessModel, rows: pa.Table, ratings: linear.Vector | None
) -> tuple[calibration.Calibration, dict[str, Any]]:
    """How to correct the model's log-odds of rows whose profiles had these ratings, and facts about that."""
    success = np.asarray(rows["target_is_success"], dtype=bool)
    found = calibration.fit(model.log_odds(rows, ratings), success)
    return found, {"calibration": found.kind, "calibration_rows": len(success)}


def time_ordered_parts(
    submitted: npt.NDArray[np.int64], known: npt.NDArray[np.int64], success: Labels, parameters: TrainingParameters
) -> tuple[Labels, Labels]:
    """Masks of the rows to fit to, and of the newest ones to validate on; rows are in order of `submitted`.

    Validation is the newest `validation_share`, or more (up to half of the rows) where that is wanted for `min_per_class` of
    either class: what was decided soon is mostly of one class. Nothing fitted became known after validation begins, unless
    that purge would leave less than `min_per_class` of a class. Raises `NotTrainable` where nothing leaves both classes.
    """
    held = max(1, round(len(success) * parameters.validation_share))
    for label in (success, ~success):
        enough = int(np.searchsorted(np.cumsum(label[::-1]), parameters.min_per_class)) + 1
        held = max(held, min(enough, len(success) // 2))
    begin = submitted[len(success) - held]
    validation = submitted >= begin
    fitted = ~validation & (known < begin)
    if min(success[fitted].sum(), (~success[fitted]).sum()) < parameters.min_per_class:
        fitted = ~validation
    if len(np.unique(success[fitted])) < 2:
        raise NotTrainable("the older part of the training bids has one kind of outcome only: nothing to tell apart")
    return fitted, validation


def _times(rows: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """When each row was submitted and when its outcome became known, microseconds."""
    submitted, known = (np.asarray(rows[name].cast(pa.int64())) for name in ("submitted_at", "outcome_timestamp"))
    return submitted, known
