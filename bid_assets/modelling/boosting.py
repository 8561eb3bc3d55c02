"""The trees: XGBoost on one matrix. How many rounds, and what joins the trees, is decided in `train`.

Imports XGBoost: import this module only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost as xgb

from bid_assets.modelling import linear, preprocess
from bid_assets.modelling.metrics import Labels
from bid_assets.modelling.parameters import TrainingParameters

SINGLE_THREAD_CELLS = 5_000_000
"""Below this size of the matrix (rows x features) one thread does it all."""


@dataclass(frozen=True, eq=False)
class Learner:
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
        return bytes(self._of_all(rounds).save_raw("ubj"))

    def log_odds_after(self, rounds: int, matrix: preprocess.Matrix) -> linear.Vector:
        """What the booster of all rows says of other rows, shape (rows,)."""
        trees = self._of_all(rounds).inplace_predict(matrix, predict_type="margin", missing=np.nan)
        return np.asarray(trees, dtype=np.float64)

    def _of_all(self, rounds: int) -> xgb.Booster:
        everything = self._data(np.ones(len(self.success), dtype=bool))
        return xgb.train(self._settings(), everything, num_boost_round=rounds, verbose_eval=False)

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


def column_weights(encodings: Sequence[preprocess.Encoding]) -> preprocess.Matrix:
    """How often a feature is offered to a tree: each column of the dataset alike, however many numbers it has become.

    Otherwise two embeddings of 16 components each would crowd out the profile's history.
    """
    return np.array([1 / len(encoding.names) for encoding in encodings for _ in encoding.names], dtype=np.float32)
