"""A trained model: one object with all that it takes to score a table, and nothing that would have to be learnt again.

It is a blend, in log-odds: the weighted average of a booster that sees every number and a logistic regression on the history, to which is
added what a regression on the texts says; then calibrated, where that was asked for and wins.
XGBoost is imported when more than a few rows are scored, or a model scores that was never saved. How a model comes to be is in `train`,
how it is saved and what its content hash is in `model_file`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.modelling.estimators import column_encoders, history_logistic_regression
from bid_assets.modelling.estimators.calibration import NOT_CALIBRATED, Calibration
from bid_assets.modelling.estimators.history_logistic_regression import Line
from bid_assets.modelling.estimators.numpy_trees import FEW, PlainTrees
from bid_assets.modelling.estimators.row_encoder import FeatureRow, RowEncoder
from bid_assets.modelling.parameters import TrainingParameters

if TYPE_CHECKING:
    import xgboost as xgb

BASE = "(base)"
"""Name of the last column of `contributions`: what the model says before it has looked at any feature."""

PROBABILITY_OF_NOTHING = "probability_of_nothing"
"""Name of the canned prediction among a model's facts."""


@dataclass(frozen=True, eq=False)
class BidSuccessModel:
    """Scores bids: features in, probability of success out."""

    encoders: tuple[column_encoders.ColumnEncoder, ...]
    """Those that the trees see, then those of texts."""
    trees: bytes
    """The booster in XGBoost's UBJSON."""
    linear: Line | None
    """On the history. None: the trees alone."""
    linear_weight: float
    """Its share of the log-odds of both; the trees have the rest."""
    threshold: float
    """From this probability on a bid is called a success; see `train.best_threshold`."""
    encoder_fingerprint: str | None
    """The text encoder behind the embeddings that it reads; those of another one must not be scored. None where it reads none."""
    parameters: TrainingParameters
    training: dict[str, Any] = field(default_factory=dict)
    """Facts of the training: rows, label rates, rounds. JSON-able."""
    calibration: Calibration = NOT_CALIBRATED
    judged: BidSuccessModel | None = None
    """The twin that has not learned from the holdout, if this one has (`refit_on_holdout`): reports are about that one."""

    @property
    def feature_schema(self) -> pa.Schema:
        """The columns that a table must have to be scored, with the types that the model was trained on."""
        return pa.schema({encoder.column: encoder.type for encoder in self.encoders})

    @property
    def texts(self) -> frozenset[str]:
        """The columns of words and embeddings that it reads, or its twin."""
        own = frozenset(each.column for each in self.encoders if isinstance(each, column_encoders.TextLogit))
        return own if self.judged is None else own | self.judged.texts

    @property
    def feature_names(self) -> list[str]:
        """The names of the numbers that the model sees, in order; see `encoders`."""
        return [name for encoder in self.encoders for name in encoder.names]

    def predict(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """Probability of success of each row, shape (rows,). Raises `ColumnMismatchError` for a table that does not fit."""
        return self.probability_of(column_encoders.encode(table, self.encoders))

    def probability_of(self, matrix: column_encoders.Matrix) -> npt.NDArray[np.float64]:
        """The same of rows that are encoded already, shape (rows, len(feature_names))."""
        return self.calibration.probability(self._log_odds_of(matrix))

    def probability_of_nothing(self) -> float:
        """What it says of a bid of which nothing is known: a canned prediction, to be the same wherever it is loaded."""
        return float(self.probability_of(self.matrix_of([{}]))[0])

    def matrix_of(self, rows: Sequence[FeatureRow]) -> column_encoders.Matrix:
        """Rows that are plain values by column name, encoded. Raises `ColumnMismatchError`, which names the column."""
        return self._row_encoder(rows)

    def log_odds(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """What the model says before it is calibrated, shape (rows,)."""
        return self._log_odds_of(column_encoders.encode(table, self.encoders))

    def _log_odds_of(self, matrix: column_encoders.Matrix) -> npt.NDArray[np.float64]:
        if not len(matrix):
            return np.empty(0)
        numbers, texts = matrix[:, : self.numbers], matrix[:, self.numbers :]
        if len(matrix) <= FEW:
            log_odds = self.tree_ensemble.log_odds(numbers).astype(np.float64)
        else:
            log_odds = self._booster.inplace_predict(numbers, predict_type="margin", missing=np.nan).astype(np.float64)
        if self.linear is not None:
            log_odds = history_logistic_regression.blended(log_odds, self.linear.log_odds(matrix), self.linear_weight)
        return np.asarray(log_odds + column_encoders.text_log_odds(texts), dtype=np.float64)

    def contributions(self, table: pa.Table) -> tuple[list[str], npt.NDArray[np.float32]]:
        """What each feature adds to the log-odds (SHAP), shape (rows, features + 1); the last column is `BASE`.

        The weighted sum of XGBoost's own values and of the history's terms, and what the texts add; a row adds up to the log-odds of the
        probability, or, where the calibration is isotonic and nothing adds up to it, to the log-odds before it.
        """
        import xgboost as xgb

        matrix = column_encoders.encode(table, self.encoders)
        names = [*self.feature_names, BASE]
        if not len(matrix):
            return names, np.empty((0, len(names)), dtype=np.float32)
        of_trees = self._booster.predict(xgb.DMatrix(matrix[:, : self.numbers]), pred_contribs=True).astype(np.float64)
        parts = np.insert(of_trees, [self.numbers] * (matrix.shape[1] - self.numbers), 0.0, axis=1)
        if self.linear is not None:
            terms = np.zeros_like(parts)
            terms[:, self.linear.columns], terms[:, -1] = self.linear.terms(matrix), self.linear.base
            parts = history_logistic_regression.blended(parts, terms, self.linear_weight)
        parts[:, self.numbers : -1] = np.nan_to_num(matrix[:, self.numbers :])
        parts *= self.calibration.slope
        parts[:, -1] += self.calibration.intercept
        return names, parts.astype(np.float32)

    def scores(self, importance_type: str) -> npt.NDArray[np.float64]:
        """XGBoost's `gain` or `weight` of each feature, in the order of `feature_names`; 0 where no tree uses it."""
        found = self._booster.get_score(importance_type=importance_type)
        return np.array([found.get(f"f{number}", 0.0) for number in range(len(self.feature_names))], dtype=np.float64)

    def facts(self) -> dict[str, Any]:
        """What to show of the model: facts of the training, threshold, sizes. JSON-able."""
        return {
            **self.training,
            "threshold": self.threshold,
            "columns": len(self.encoders),
            "features": len(self.feature_names),
            "threshold_aim": self.parameters.threshold_objective,
            "linear_weight": self.linear_weight,
            "linear_features": 0 if self.linear is None else len(self.linear.columns),
            "encoder_fingerprint": self.encoder_fingerprint or "none",
            PROBABILITY_OF_NOTHING: self.probability_of_nothing(),
            "parameters": self.parameters.as_dict(),
        }

    @cached_property
    def reads_embeddings(self) -> bool:
        """Whether a text has to be encoded for this model to score it."""
        return column_encoders.reads_embeddings(self.encoders)

    @cached_property
    def numbers(self) -> int:
        """So many columns of the matrix trees and history see; after them comes what the texts add."""
        return sum(len(each.names) for each in self.encoders if not isinstance(each, column_encoders.TextLogit))

    @cached_property
    def _booster(self) -> xgb.Booster:
        import xgboost as xgb

        booster = xgb.Booster({"nthread": 1})  # one bid at a time is faster without threads
        booster.load_model(bytearray(self.trees))
        return booster

    @cached_property
    def tree_ensemble(self) -> PlainTrees:
        """The booster as plain arrays, which score a few rows without XGBoost; of a model from a file, those of the file."""
        return PlainTrees.of(self._booster)

    @cached_property
    def _row_encoder(self) -> RowEncoder:
        return RowEncoder(self.encoders)
