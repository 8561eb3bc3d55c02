"""The model as a scikit-learn classifier: fitted to rows of a training dataset, and compiled to a `BidSuccessModel`.

`training.train` and a notebook take the same road. Imports XGBoost and scikit-learn: import this module only where a
model is trained.
"""

from __future__ import annotations

import inspect
from copy import copy
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from bid_assets.common.arrow import FloatArray, microseconds
from bid_assets.modelling.dataset.assemble import KEY_COLUMNS, columns_with_texts
from bid_assets.modelling.dataset.frames import table_from_array, table_from_frame
from bid_assets.modelling.estimators import calibration, column_encoders, threshold
from bid_assets.modelling.estimators.base import LogOddsClassifier, binary_labels
from bid_assets.modelling.estimators.blend import LogOddsBlend
from bid_assets.modelling.estimators.gradient_boosting import boosted_trees, column_weights
from bid_assets.modelling.estimators.history_logistic_regression import compile_history, history_columns, history_regression
from bid_assets.modelling.estimators.linear_logit import expit
from bid_assets.modelling.estimators.target_statistics import OrderedTargetStatistic, Profiles, cross_fitted_expectation
from bid_assets.modelling.estimators.text_logistic_regression import TextColumn, TextLogisticRegression
from bid_assets.modelling.evaluation.metrics import Labels, success_is_rarer
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import NotTrainableError, TrainingParameters

[TARGET_STATISTIC] = column_encoders.TargetStatistic.names
CHECK_ROWS = 64
"""Training rows on which a compiled model must score as the classifier that it was compiled from."""
TOLERANCE = 1e-6
"""Of a probability: matrices are of single precision."""


_SIGNATURE = inspect.signature(TrainingParameters.__init__)


class CompilationError(RuntimeError):
    """A compiled model does not score as the classifier that it was compiled from."""


class BidSuccessClassifier(LogOddsClassifier):
    """Probability of success of bids. Parameters: those of `TrainingParameters`, by name, with its defaults.

    X is an Arrow table or a pandas frame with the columns of a training dataset, or an array of numbers. Its keys are no
    features: `submitted_at` and `outcome_timestamp` order the rows (without them they are in order), `profile_id` says
    whose they are (without it there is no target statistic). `predict` says success from `threshold_` on.
    """

    def __init__(self, **parameters: Any) -> None:
        arguments = _SIGNATURE.bind(self, **parameters)
        arguments.apply_defaults()
        for each in fields(TrainingParameters):
            setattr(self, each.name, arguments.arguments[each.name])

    __init__.__signature__ = _SIGNATURE  # type: ignore[attr-defined]  # which get_params reads

    @property
    def parameters(self) -> TrainingParameters:
        """The parameters, checked. Raises `ValueError` for one out of range."""
        return TrainingParameters(**self.get_params())

    def fit(self, X: Any, y: Any) -> BidSuccessClassifier:
        """Learn encoders, blend, calibration and threshold. Raises `NotTrainableError` where the rows do not suffice."""
        parameters = self.parameters
        matrix, success, metadata = self._fit_encoders(X, y)
        self.blend_ = LogOddsBlend(
            boosted_trees(parameters, column_weights(self.encoders_)),
            history_regression(),
            TextLogisticRegression(),
            self.history_places_,
            parameters.max_linear_weight,
            parameters.max_words_weight,
            parameters.validation_share,
            parameters.min_per_class,
        )
        self.blend_.fit(matrix, success, **metadata)
        self.calibration_ = calibration.select_calibration(parameters.calibration, self.blend_.validation_)
        log_odds, labels = (np.concatenate(parts) for parts in zip(*self.blend_.validation_, strict=True))
        self.threshold_ = threshold.choose_threshold(labels, self._probability(log_odds), parameters, success_is_rarer(success))
        text = self.blend_.text_
        self.facts_ = {
            "rounds": self.blend_.rounds_,
            "words": 0 if text is None else text.n_tokens_,
            "words_weight": self.blend_.weights_.text,
            "rated_profiles": 0 if metadata["statistic"] is None else len(metadata["statistic"].profiles.names),
            "train_rows": len(success),
            "train_label_rate": float(success.mean()),
            "forward_blocks": len(self.blend_.validation_),
            "fit_rows": self.blend_.fit_rows_,
            "validation_rows": len(labels),
            "validation_label_rate": float(labels.mean()),
            "calibration": self.calibration_.method,
        }
        return self

    def refit(self, X: Any, y: Any) -> BidSuccessClassifier:
        """Another one, fitted to these rows with the rounds, weights, calibration and threshold of this one."""
        other = copy(self)
        matrix, success, metadata = other._fit_encoders(X, y)
        trees = boosted_trees(self.parameters, column_weights(other.encoders_))
        other.blend_ = copy(self.blend_).set_params(trees=trees, history_columns=other.history_places_)
        other.blend_.refit(matrix, success, metadata["texts"])
        other.facts_ = {**self.facts_, "refitted_rows": len(success)}
        return other

    def decision_function(self, X: Any) -> FloatArray:
        """Log-odds before calibration, shape (rows,). Raises `ColumnMismatchError` for a table that does not fit."""
        check_is_fitted(self)
        table = self._table(X)
        matrix = column_encoders.encode(table, self.encoders_)
        names = [] if self.blend_.text_ is None else [column for column, _ in self.blend_.text_.columns_]
        texts = [TextColumn.from_arrow(name, table[name], np.arange(len(matrix))) for name in names]
        return self.blend_.decision_function(matrix, texts)

    def compile(self, encoder_fingerprint: str | None = None) -> BidSuccessModel:
        """The same as a scorer that needs no training library, checked on `CHECK_ROWS` training rows.

        `encoder_fingerprint`: of the text encoder behind the embeddings. Raises `CompilationError`.
        """
        check_is_fitted(self)
        blend = self.blend_
        texts = () if blend.text_ is None else blend.text_.compile(blend.weights_.text)
        model = BidSuccessModel(
            (*self.encoders_, *texts),
            bytes(blend.trees_.get_booster().save_raw("ubj")),
            None if blend.history_ is None else compile_history(blend.history_, blend.history_columns),
            blend.weights_.history,
            self.threshold_,
            encoder_fingerprint if column_encoders.reads_embeddings(texts) else None,
            self.parameters,
            self.facts_,
            self.calibration_,
        )
        self._check(replace(model, calibration=calibration.IDENTITY))  # steps of isotonic ones would enlarge the last bits
        return model

    def _check(self, uncalibrated: BidSuccessModel) -> None:
        expected = expit(self.decision_function(self.check_rows_))
        row_by_row = uncalibrated.predict_matrix(uncalibrated.encode_rows(self.check_rows_.to_pylist()))
        for actual in (uncalibrated.predict(self.check_rows_), row_by_row):
            if (difference := np.abs(actual - expected).max()) > TOLERANCE:
                raise CompilationError(
                    f"the compiled model differs by {difference:.1e} from the classifier that it was compiled from; "
                    "it would serve other probabilities than were validated, and is not kept: please report this"
                )

    def _probability(self, log_odds: FloatArray) -> FloatArray:
        return self.calibration_.probability(log_odds)

    def _table(self, X: Any) -> pa.Table:
        if hasattr(X, "iloc"):
            return table_from_frame(X, self.check_rows_.schema)
        if isinstance(X, pa.Table):
            return X
        return table_from_array(validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False))

    def _training_rows(self, X: Any, y: Any) -> tuple[Any, Any]:
        if hasattr(X, "iloc"):  # a pandas frame, without an import of pandas
            return table_from_frame(X), column_or_1d(y)
        if hasattr(X, "select"):
            return X, column_or_1d(y)
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite="allow-nan", ensure_min_samples=2)
        return table_from_array(X), y

    def _fit_encoders(self, X: Any, y: Any) -> tuple[column_encoders.Matrix, Labels, dict[str, Any]]:
        """Matrix, labels, and what else `LogOddsBlend.fit` takes.

        Of `X`, texts are selected one by one, when the other columns are no more in memory.
        """
        parameters = self.parameters
        rows, y = self._training_rows(X, y)
        self.classes_, success = binary_labels(y)
        columns = columns_to_read(rows.schema, parameters)
        texts = [name for name in column_encoders.text_columns(rows.schema) if name in columns]
        numbers = [name for name in columns if name not in {*texts, *KEY_COLUMNS, *parameters.excluded}]
        if not numbers:
            raise NotTrainableError("the dataset has no feature column" + (" but texts" if texts else ""))
        keys = [name for name in ("profile_id", "submitted_at", "outcome_timestamp") if name in rows.schema.names]
        table = rows.select([*keys, *numbers])
        submitted = microseconds(table["submitted_at"]) if "submitted_at" in keys else np.arange(len(success))
        known = microseconds(table["outcome_timestamp"]) if "outcome_timestamp" in keys else submitted
        profiles = Profiles.from_column(table["profile_id"]) if "profile_id" in keys else None
        with_statistic = profiles is not None and TARGET_STATISTIC not in parameters.excluded
        self.encoders_ = column_encoders.fit_encoders(table, numbers, vocabulary_size=parameters.vocabulary_size)
        matrix = column_encoders.encode(table, self.encoders_, extra_columns=int(with_statistic))
        history = {*history_columns(table), column_encoders.TargetStatistic.column}
        check = np.linspace(0, len(success) - 1, CHECK_ROWS).astype(np.int64)
        samples = {name: table[name].take(check) for name in table.column_names}
        del table
        statistic = None
        if profiles is not None and with_statistic:
            weights = column_weights(self.encoders_)
            others = np.setdiff1d(np.arange(len(weights)), self._places(history))
            expected = cross_fitted_expectation(matrix, others, weights[others], profiles, success, parameters)
            statistic = OrderedTargetStatistic.from_expected(profiles, submitted, known, success, expected)
            self.encoders_ = (*self.encoders_, statistic.latest())
            matrix[:, -1] = statistic.at_submission()
        self.history_places_ = self._places(history)
        authors = np.arange(len(success)) if profiles is None else profiles.codes
        text_columns = []
        for name in texts:
            [column] = rows.select([name]).columns
            samples[name] = column.take(check)
            text_columns.append(TextColumn.from_arrow(name, column, authors))
            del column
        self.check_rows_ = pa.table(samples)
        return matrix, success, {"submitted": submitted, "known": known, "texts": text_columns, "statistic": statistic}

    def _places(self, columns: set[str]) -> list[int]:
        """The matrix columns that these columns have become."""
        sources = [encoder.column for encoder in self.encoders_ for _ in encoder.names]
        return [number for number, source in enumerate(sources) if source in columns]


def columns_to_read(schema: pa.Schema, parameters: TrainingParameters) -> list[str]:
    """The columns of a dataset of this schema that training reads: whoever reads a file for it needs no others."""
    texts = [name for name in column_encoders.text_columns(schema) if name not in parameters.excluded]
    if not parameters.embeddings_in_model:
        texts = [name for name in texts if column_encoders.feature_kind(schema.field(name).type) != "vector"]
    return columns_with_texts(schema, texts)
