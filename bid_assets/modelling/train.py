"""From a training dataset to a model. Imports XGBoost: import this module only where a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xgboost as xgb

from bid_assets.modelling import calibration, evidence, linear, metrics, preprocess, thresholds, words
from bid_assets.modelling.dataset import feature_columns
from bid_assets.modelling.metrics import Labels
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import TrainingParameters

SINGLE_THREAD_CELLS = 5_000_000
"""Below this size of the matrix (rows x features) one thread does it all."""


class NotTrainable(Exception):
    """There is not enough to learn from; the message says what is lacking, in words."""


def train(dataset: pa.Table, parameters: TrainingParameters, encoder_fingerprint: str | None = None) -> BidSuccessModel:
    """A model of the dataset's `train` rows; the same dataset and parameters give the same `content_hash`.

    Number of trees, weights of the lines and of the words, and threshold are found on the newest part of these rows with parts that have
    not seen it; the model's own are then fitted to all of them. The dataset's `calibration` rows calibrate it. Raises `NotTrainable` where there are too few outcomes, or
    only one kind of outcome.
    """
    refuse_untrainable(dataset, parameters)
    rows = dataset.filter(pc.equal(dataset["split"], "train"))
    columns = [name for name in feature_columns(rows) if name not in parameters.excluded]
    documents = words.documents(rows, columns)
    encodings, beyond = _fitted_encodings(rows, [name for name in columns if name not in documents], parameters)
    if not encodings:
        raise NotTrainable("the dataset has no feature column" + (" but words" if documents else ""))
    matrix, success = preprocess.encode(rows, encodings), np.asarray(rows["target_is_success"], dtype=bool)
    everything, sources = _everything(rows, matrix, encodings, beyond)
    learner = _Learner(matrix, success, _column_weights(encodings), parameters)
    fitted, validation = time_ordered_parts(*_times(rows), success, parameters)
    history = _matrix_columns(encodings, linear.history_columns(rows))
    rounds, log_odds = learner.early_stopped(fitted, validation)
    weight = 0.0
    if history:
        said = linear.fit(matrix[fitted], success[fitted], history).log_odds(matrix[validation])
        weight = linear.best_weight(log_odds, said, success[validation], parameters.max_linear_weight)
        log_odds = linear.blended(log_odds, said, weight)
    weight_of_all = 0.0
    if parameters.max_linear_weight:
        said = evidence.fit(everything[fitted], success[fitted], sources).log_odds(everything[validation])
        new = _on_new_jobs(rows["job_id"], fitted, validation)
        judged = (log_odds[new], said[new], success[validation][new])
        weight_of_all = linear.trusted_weight(*judged, parameters.max_linear_weight)
        log_odds = linear.blended(log_odds, said, weight_of_all)
    words_weight = 0.0
    if documents and parameters.max_words_weight:
        read = words.fit(rows.filter(pa.array(fitted)), documents, success[fitted])
        added = words.added(rows.filter(pa.array(validation)), read)
        words_weight = words.best_weight(log_odds, added, success[validation], parameters.max_words_weight)
        log_odds = log_odds + words_weight * added
    line = linear.fit(matrix, success, history) if weight else None
    line_of_all = evidence.fit(everything, success, sources) if weight_of_all else None
    scores = words.scaled(words.fit(rows, documents, success), words_weight) if words_weight else ()
    uncalibrated = BidSuccessModel(
        (*encodings, *(beyond if line_of_all else ()), *scores),
        learner.fitted_to_all(rounds),
        line,
        weight,
        threshold=0.5,
        encoder_fingerprint=encoder_fingerprint,
        parameters=parameters,
        line_of_all=line_of_all,
        line_of_all_weight=weight_of_all,
    )
    calibrated, calibration_facts = _calibrated(uncalibrated, dataset)
    threshold = thresholds.choose(
        success[validation], calibrated.probability(log_odds), parameters, metrics.success_is_rarer(success)
    )
    facts = {
        "train_rows": len(success),
        "train_label_rate": float(success.mean()),
        "fit_rows": int(fitted.sum()),
        "validation_rows": int(validation.sum()),
        "validation_label_rate": float(success[validation].mean()),
        "rounds": rounds,
        "words": sum(len(score.words) for score in scores),
        "words_weight": words_weight,
        **calibration_facts,
    }
    model = replace(uncalibrated, calibration=calibrated, threshold=threshold, training=facts)
    return refitted(model, dataset) if parameters.refit_after_judging else model


def refitted(model: BidSuccessModel, dataset: pa.Table) -> BidSuccessModel:
    """A twin of `model` that has learned from the holdout too, and from what became known while that was being filled.

    Immature bids stay out: of them mostly the successes are known. Rounds, weights of lines and words, calibration and threshold are the judged model's, which it carries as `judged`. Rows that
    calibrate still train nothing.
    """
    parameters = model.parameters
    learned = ["train", "embargo", "holdout"]
    rows = dataset.filter(pc.is_in(dataset["split"], value_set=pa.array(learned)))
    documents = [encoding.column for encoding in model.encodings if isinstance(encoding, preprocess.WordScore)]
    others = [column for column in model.feature_schema.names if column not in documents]
    encodings, beyond = _fitted_encodings(rows, others, parameters)
    matrix, success = preprocess.encode(rows, encodings), np.asarray(rows["target_is_success"], dtype=bool)
    everything, sources = _everything(rows, matrix, encodings, beyond)
    history = _matrix_columns(encodings, linear.history_columns(rows))
    booster = _Learner(matrix, success, _column_weights(encodings), parameters).fitted_to_all(model.training["rounds"])
    line = linear.fit(matrix, success, history) if model.linear is not None else None
    line_of_all = evidence.fit(everything, success, sources) if model.line_of_all is not None else None
    scores = words.scaled(words.fit(rows, documents, success), model.training["words_weight"]) if documents else ()
    facts = {**model.training, "refitted_rows": len(success)}
    return replace(
        model,
        encodings=(*encodings, *(beyond if line_of_all else ()), *scores),
        trees=booster,
        linear=line,
        line_of_all=line_of_all,
        training=facts,
        judged=model,
    )


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


def _on_new_jobs(jobs: pa.ChunkedArray, fitted: Labels, validation: Labels) -> Labels:
    """Which of the validation rows are bids on jobs that no fitted row is about, as the bids to come mostly are."""
    seen = pc.is_in(jobs.filter(pa.array(validation)), value_set=jobs.filter(pa.array(fitted)).combine_chunks())
    return np.asarray(pc.invert(seen), dtype=bool)


def _fitted_encodings(
    rows: pa.Table, columns: Sequence[str], parameters: TrainingParameters
) -> tuple[tuple[preprocess.Encoding, ...], tuple[preprocess.Components, ...]]:
    """Of columns that are no documents: what trees see, and the components of embeddings that only the line on everything sees."""
    most = max(parameters.embedding_components, evidence.COMPONENTS)
    found = preprocess.fit(rows, columns, vocabulary_size=parameters.vocabulary_size, embedding_components=most)
    return preprocess.split_components(found, parameters.embedding_components)


def _everything(
    rows: pa.Table,
    matrix: preprocess.Matrix,
    encodings: Sequence[preprocess.Encoding],
    beyond: Sequence[preprocess.Components],
) -> tuple[preprocess.Matrix, list[str]]:
    """The matrix of `encodings` with that of those beyond, and the dataset's column that each of its columns comes from."""
    sources = [encoding.column for encoding in (*encodings, *beyond) for _ in encoding.names]
    return np.hstack([matrix, preprocess.encode(rows, beyond)]) if beyond else matrix, sources


def _calibrated(model: BidSuccessModel, dataset: pa.Table) -> tuple[calibration.Calibration, dict[str, Any]]:
    """How to correct the model's log-odds, and facts about that."""
    rows = dataset.filter(pc.equal(dataset["split"], "calibration"))
    success = np.asarray(rows["target_is_success"], dtype=bool)
    found = calibration.fit(model.log_odds(rows), success)
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


@dataclass(frozen=True, eq=False)
class _Learner:
    """XGBoost on one matrix, with one set of parameters."""

    matrix: preprocess.Matrix
    success: Labels
    feature_weights: preprocess.Matrix
    parameters: TrainingParameters

    def early_stopped(self, fitted: Labels, validation: Labels) -> tuple[int, linear.Vector]:
        """The number of rounds that is best on `validation`, and the log-odds that these rounds, learnt from `fitted`, give it."""
        learning = self._data(fitted)
        judging = self._data(validation, ref=learning)
        booster = xgb.train(
            self._settings(),
            learning,
            num_boost_round=self.parameters.max_rounds,
            evals=[(judging, "validation")],
            early_stopping_rounds=self.parameters.early_stopping_rounds,
            verbose_eval=False,
        )
        rounds = booster.best_iteration + 1
        judged = self.matrix[validation]
        trees = booster.inplace_predict(judged, iteration_range=(0, rounds), predict_type="margin", missing=np.nan)
        return rounds, np.asarray(trees, dtype=np.float64)

    def fitted_to_all(self, rounds: int) -> bytes:
        """The booster of all rows after `rounds`, as UBJSON."""
        everything = self._data(np.ones(len(self.success), dtype=bool))
        return bytes(xgb.train(self._settings(), everything, num_boost_round=rounds, verbose_eval=False).save_raw("ubj"))

    @property
    def _threads(self) -> int:
        """One for little data, else all (0): more are slower there, and much slower on a busy machine. Results do not differ."""
        return 1 if self.matrix.size < SINGLE_THREAD_CELLS else 0

    def _settings(self) -> dict[str, Any]:
        return {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "eta": self.parameters.learning_rate,
            "max_depth": self.parameters.max_depth,
            "min_child_weight": self.parameters.min_child_weight,
            "subsample": self.parameters.subsample,
            "colsample_bytree": self.parameters.colsample_bytree,
            "lambda": self.parameters.l2,
            "seed": self.parameters.seed,
            "nthread": self._threads,
            "verbosity": 0,
        }

    def _data(self, rows: Labels, ref: xgb.DMatrix | None = None) -> xgb.QuantileDMatrix:
        return xgb.QuantileDMatrix(
            self.matrix[rows],
            self.success[rows],
            feature_weights=self.feature_weights,
            missing=np.nan,
            nthread=self._threads,
            ref=ref,
        )


def _column_weights(encodings: Sequence[preprocess.Encoding]) -> preprocess.Matrix:
    """How often a feature is offered to a tree: each column of the dataset alike, however many numbers it has become.

    Otherwise two embeddings of 16 components each would crowd out the profile's history.
    """
    return np.array([1 / len(encoding.names) for encoding in encodings for _ in encoding.names], dtype=np.float32)


def _matrix_columns(encodings: Sequence[preprocess.Encoding], wanted: Sequence[str]) -> list[int]:
    """Where in the matrix the numbers of the `wanted` columns stand."""
    sources = [encoding.column for encoding in encodings for _ in encoding.names]
    return [number for number, source in enumerate(sources) if source in wanted]


def _times(rows: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """When each row was submitted and when its outcome became known, microseconds."""
    submitted, known = (np.asarray(rows[name].cast(pa.int64())) for name in ("submitted_at", "outcome_timestamp"))
    return submitted, known
