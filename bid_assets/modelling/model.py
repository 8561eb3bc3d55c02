"""The trained model as a compiled scorer: features in, probability of success out, without any training library.

A blend of log-odds: the weighted average of a gradient-boosted tree ensemble and a logistic regression on the history,
plus a logistic regression on the texts; then calibrated, if the setting `calibration` asks for it and it improves the log loss.
XGBoost is imported when more than a few rows are scored, or a model scores that was never saved. How a model is trained
is in `training`, how it is saved and what its content hash is in `model_file`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.modelling.estimators import column_encoders
from bid_assets.modelling.estimators.calibration import IDENTITY, Calibration
from bid_assets.modelling.estimators.linear_logit import LinearLogit, blend_log_odds
from bid_assets.modelling.estimators.numpy_trees import MAX_ROWS, NumpyTreeEnsemble
from bid_assets.modelling.estimators.row_encoder import FeatureRow, RowEncoder
from bid_assets.modelling.parameters import TrainingParameters

if TYPE_CHECKING:
    import xgboost as xgb

BASE_VALUE = "(base)"
"""Name of the last column of `contributions`: the base value (SHAP), the log-odds before any feature."""

EMPTY_ROW_PROBABILITY = "empty_row_probability"
"""Name of the smoke-test prediction among a model's facts."""


@dataclass(frozen=True, eq=False)
class BidSuccessModel:
    """Scores bids: features in, probability of success out."""

    encoders: tuple[column_encoders.ColumnEncoder, ...]
    """Those of the trees, then those of the texts."""
    booster: bytes
    """The gradient-boosted trees in XGBoost's UBJSON."""
    history_logit: LinearLogit | None
    """Logistic regression on the history. None: the trees alone."""
    history_weight: float
    """Blend weight of the history logit; the trees have the rest."""
    threshold: float
    """From this probability on a bid is called a success; see `estimators.threshold`."""
    encoder_fingerprint: str | None
    """Of the text encoder of the embeddings that the model reads; others must not be scored. None: it reads no embeddings."""
    parameters: TrainingParameters
    training: dict[str, Any] = field(default_factory=dict)
    """Facts of the training: rows, label rates, rounds. JSON-able."""
    calibration: Calibration = IDENTITY
    holdout_model: BidSuccessModel | None = None
    """The model before the refit on the holdout (`refit_on_holdout`): reports are about that one. None: there was no refit."""

    @property
    def feature_schema(self) -> pa.Schema:
        """The columns that a table must have to be scored, with the types that the model was trained on."""
        return pa.schema({encoder.column: encoder.type for encoder in self.encoders})

    @property
    def text_columns(self) -> frozenset[str]:
        """The columns of tokens and embeddings that the model, or its `holdout_model`, reads."""
        own = frozenset(each.column for each in self.encoders if isinstance(each, column_encoders.TextLogit))
        return own if self.holdout_model is None else own | self.holdout_model.text_columns

    @property
    def feature_names(self) -> list[str]:
        """The names of the columns of the matrix, in order; see `encoders`."""
        return [name for encoder in self.encoders for name in encoder.names]

    def predict(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """Probability of success of each row, shape (rows,). Raises `ColumnMismatchError` for a table that does not fit."""
        return self.predict_matrix(column_encoders.encode(table, self.encoders))

    def predict_matrix(self, matrix: column_encoders.Matrix) -> npt.NDArray[np.float64]:
        """Probability of success of each row of an encoded matrix, shape (rows, len(feature_names))."""
        return self.calibration.probability(self._log_odds_of(matrix))

    def empty_row_probability(self) -> float:
        """Smoke-test prediction on a row without values: it must be the same wherever the model is loaded."""
        return float(self.predict_matrix(self.encode_rows([{}]))[0])

    def encode_rows(self, rows: Sequence[FeatureRow]) -> column_encoders.Matrix:
        """The encoded matrix of rows that are mappings of plain values. Raises `ColumnMismatchError`, which names the
        column."""
        return self._row_encoder(rows)

    def log_odds(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """Log-odds before calibration, shape (rows,)."""
        return self._log_odds_of(column_encoders.encode(table, self.encoders))

    def _log_odds_of(self, matrix: column_encoders.Matrix) -> npt.NDArray[np.float64]:
        if not len(matrix):
            return np.empty(0)
        numbers, texts = matrix[:, : self.numeric_count], matrix[:, self.numeric_count :]
        if len(matrix) <= MAX_ROWS:
            log_odds = self.tree_ensemble.log_odds(numbers).astype(np.float64)
        else:
            log_odds = self._booster.inplace_predict(numbers, predict_type="margin", missing=np.nan).astype(np.float64)
        if self.history_logit is not None:
            log_odds = blend_log_odds(log_odds, self.history_logit.log_odds(matrix), self.history_weight)
        return np.asarray(log_odds + column_encoders.text_log_odds(texts), dtype=np.float64)

    def contributions(self, table: pa.Table) -> tuple[list[str], npt.NDArray[np.float32]]:
        """SHAP values: the contribution of each feature to the log-odds, shape (rows, features + 1); the last column is
        `BASE_VALUE`.

        The weighted sum of XGBoost's SHAP values and the contributions of the history logit, and those of the texts. A
        row adds up to the log-odds of the probability or, where the calibration is isotonic, to the log-odds before
        calibration.
        """
        import xgboost as xgb

        matrix = column_encoders.encode(table, self.encoders)
        names = [*self.feature_names, BASE_VALUE]
        if not len(matrix):
            return names, np.empty((0, len(names)), dtype=np.float32)
        of_trees = self._booster.predict(xgb.DMatrix(matrix[:, : self.numeric_count]), pred_contribs=True).astype(np.float64)
        parts = np.insert(of_trees, [self.numeric_count] * (matrix.shape[1] - self.numeric_count), 0.0, axis=1)
        if self.history_logit is not None:
            of_history = np.zeros_like(parts)
            of_history[:, self.history_logit.columns], of_history[:, -1] = (
                self.history_logit.contributions(matrix),
                self.history_logit.intercept,
            )
            parts = blend_log_odds(parts, of_history, self.history_weight)
        parts[:, self.numeric_count : -1] = np.nan_to_num(matrix[:, self.numeric_count :])
        parts *= self.calibration.slope
        parts[:, -1] += self.calibration.intercept
        return names, parts.astype(np.float32)

    def booster_importance(self, importance_type: str) -> npt.NDArray[np.float64]:
        """XGBoost's `gain` or `weight` of each feature, in the order of `feature_names`; 0 where no tree uses it."""
        scores = self._booster.get_score(importance_type=importance_type)
        return np.array([scores.get(f"f{number}", 0.0) for number in range(len(self.feature_names))], dtype=np.float64)

    def facts(self) -> dict[str, Any]:
        """Summary of the model: facts of the training, threshold, sizes. JSON-able."""
        return {
            **self.training,
            "threshold": self.threshold,
            "columns": len(self.encoders),
            "features": len(self.feature_names),
            "threshold_objective": self.parameters.threshold_objective,
            "linear_weight": self.history_weight,
            "linear_features": 0 if self.history_logit is None else len(self.history_logit.columns),
            "encoder_fingerprint": self.encoder_fingerprint or "none",
            EMPTY_ROW_PROBABILITY: self.empty_row_probability(),
            "parameters": self.parameters.as_dict(),
        }

    @cached_property
    def reads_embeddings(self) -> bool:
        """Whether a text has to be encoded for this model to score it."""
        return column_encoders.reads_embeddings(self.encoders)

    @cached_property
    def numeric_count(self) -> int:
        """The number of matrix columns that trees and history logit read; the columns of the texts come after them."""
        return sum(len(each.names) for each in self.encoders if not isinstance(each, column_encoders.TextLogit))

    @cached_property
    def _booster(self) -> xgb.Booster:
        import xgboost as xgb

        booster = xgb.Booster({"nthread": 1})  # one bid at a time is faster without threads
        booster.load_model(bytearray(self.booster))
        return booster

    @cached_property
    def tree_ensemble(self) -> NumpyTreeEnsemble:
        """The booster as plain arrays, which score a few rows without XGBoost; a model from a file has those of the file."""
        return NumpyTreeEnsemble.from_booster(self._booster)

    @cached_property
    def _row_encoder(self) -> RowEncoder:
        return RowEncoder(self.encoders)
