"""The tree component of the blend: XGBoost on one matrix. The number of rounds and the blend are decided in `training`.

Imports XGBoost: import this module only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xgboost as xgb

from bid_assets.modelling.estimators import column_encoders, history_logistic_regression
from bid_assets.modelling.evaluation.metrics import Labels
from bid_assets.modelling.parameters import TrainingParameters

SINGLE_THREAD_CELLS = 5_000_000
"""Below this size of the matrix (rows x features) one thread does it all."""


@dataclass(frozen=True, eq=False)
class FittedBooster:
    """A fitted booster, and its log loss on validation rows after each round, if it had any."""

    booster: xgb.Booster
    losses: history_logistic_regression.FloatArray = field(default_factory=lambda: np.empty(0))

    def log_odds(self, matrix: column_encoders.Matrix, rounds: int = 0) -> history_logistic_regression.FloatArray:
        """Log-odds of rows after so many rounds (0: all of them), shape (rows,)."""
        last = min(rounds, self.booster.num_boosted_rounds())
        trees = self.booster.inplace_predict(matrix, iteration_range=(0, last), predict_type="margin", missing=np.nan)
        return np.asarray(trees, dtype=np.float64)

    def to_ubjson(self) -> bytes:
        """The booster in XGBoost's UBJSON."""
        return bytes(self.booster.save_raw("ubj"))


@dataclass(frozen=True, eq=False)
class BoosterTrainer:
    """Trains XGBoost on one matrix, with one set of parameters."""

    matrix: column_encoders.Matrix
    success: Labels
    feature_weights: column_encoders.Matrix
    parameters: TrainingParameters

    def fit_with_early_stopping(self, train: Labels, matrix: column_encoders.Matrix, success: Labels) -> FittedBooster:
        """Fit to the `train` rows (a mask), with early stopping on the validation rows `matrix` and `success`."""
        train_data = self._data(self.matrix[train], self.success[train])
        losses: dict[str, dict[str, list[float]]] = {}
        booster = xgb.train(
            self._xgboost_parameters(),
            train_data,
            num_boost_round=self.parameters.max_rounds,
            evals=[(self._data(matrix, success, ref=train_data), "validation")],
            early_stopping_rounds=self.parameters.early_stopping_rounds,
            evals_result=losses,
            verbose_eval=False,
        )
        return FittedBooster(booster, np.array(losses["validation"]["logloss"]))

    def fit_all_rows(self, rounds: int) -> FittedBooster:
        """Fit to all rows, with this number of rounds."""
        train_data = self._data(self.matrix, self.success)
        return FittedBooster(xgb.train(self._xgboost_parameters(), train_data, num_boost_round=rounds, verbose_eval=False))

    @property
    def _threads(self) -> int:
        """One for little data, else all (0): more are slower there, and much slower on a busy machine. Results do not
        differ."""
        return 1 if self.matrix.size < SINGLE_THREAD_CELLS else 0

    def _xgboost_parameters(self) -> dict[str, Any]:
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

    def _data(self, matrix: column_encoders.Matrix, success: Labels, ref: xgb.DMatrix | None = None) -> xgb.QuantileDMatrix:
        return xgb.QuantileDMatrix(
            matrix, success, feature_weights=self.feature_weights, missing=np.nan, nthread=self._threads, ref=ref
        )


def best_rounds(boosters: Sequence[FittedBooster], weights: history_logistic_regression.FloatArray) -> int:
    """The number of rounds that minimizes the weighted mean of the validation log losses; after early stopping, the
    last loss counts."""
    longest = max(len(each.losses) for each in boosters)
    losses = [np.pad(each.losses, (0, longest - len(each.losses)), mode="edge") for each in boosters]
    return int(np.average(losses, axis=0, weights=weights).argmin()) + 1


def column_weights(encoders: Sequence[column_encoders.ColumnEncoder]) -> column_encoders.Matrix:
    """How often a feature is offered to a tree: each column of the dataset alike, however many numbers it has become.

    Otherwise two embeddings of 16 components each would crowd out the profile's history.
    """
    return np.array([1 / len(encoder.names) for encoder in encoders for _ in encoder.names], dtype=np.float32)
