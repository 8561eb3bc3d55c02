"""The tree component of the blend: XGBoost's classifier. The number of rounds and the blend are decided in `blend`.

Imports XGBoost: import this module only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xgboost as xgb
from sklearn.base import clone

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.estimators.column_encoders import ColumnEncoder, Matrix
from bid_assets.modelling.evaluation.metrics import Labels
from bid_assets.modelling.parameters import TrainingParameters

SINGLE_THREAD_CELLS = 5_000_000
"""Below this size of the matrix (rows x features) one thread does it all: more are slower there, and much slower on a
busy machine. Results do not differ."""


def boosted_trees(parameters: TrainingParameters, feature_weights: Matrix | None = None) -> xgb.XGBClassifier:
    """The unfitted classifier; `feature_weights`: see `column_weights`."""
    return xgb.XGBClassifier(
        n_estimators=parameters.max_rounds,
        early_stopping_rounds=parameters.early_stopping_rounds,
        objective="binary:logistic",
        eval_metric="logloss",
        tree_method="hist",
        learning_rate=parameters.learning_rate,
        max_depth=parameters.max_depth,
        min_child_weight=parameters.min_child_weight,
        subsample=parameters.subsample,
        colsample_bytree=parameters.colsample_bytree,
        reg_lambda=parameters.l2,
        feature_weights=feature_weights,
        random_state=parameters.seed,
        verbosity=0,
    )


class ValidatedBooster(NamedTuple):
    """A booster, and its log loss on validation rows after each round."""

    booster: xgb.Booster
    losses: FloatArray


def fit_with_early_stopping(
    trees: xgb.XGBClassifier, matrix: Matrix, success: Labels, validation: tuple[Matrix, Labels]
) -> ValidatedBooster:
    """The trees fitted to the rows, with early stopping on the validation rows.

    As `XGBClassifier.fit` with an `eval_set`, but that validation rows are a `DMatrix`: to score a `QuantileDMatrix`
    after each round takes three times as long as the rounds.
    """
    threads = _threads(matrix)
    losses: dict[str, dict[str, list[float]]] = {}
    booster = xgb.train(
        {**trees.get_xgb_params(), "nthread": threads},
        xgb.QuantileDMatrix(matrix, success, feature_weights=trees.feature_weights, nthread=threads),
        num_boost_round=trees.n_estimators,
        evals=[(xgb.DMatrix(*validation, nthread=threads), "validation")],
        early_stopping_rounds=trees.early_stopping_rounds,
        evals_result=losses,
        verbose_eval=False,
    )
    return ValidatedBooster(booster, np.array(losses["validation"]["logloss"]))


def fit_rounds(trees: xgb.XGBClassifier, matrix: Matrix, success: Labels, rounds: int) -> xgb.XGBClassifier:
    """A clone fitted to the rows with this number of rounds."""
    fitted: xgb.XGBClassifier = clone(trees).set_params(
        n_jobs=_threads(matrix), n_estimators=rounds, early_stopping_rounds=None
    )
    return fitted.fit(matrix, success)


def log_odds_after(booster: xgb.Booster, matrix: Matrix, rounds: int) -> FloatArray:
    """Log-odds of rows after so many rounds, or after all where there are fewer, shape (rows,)."""
    last = min(rounds, booster.num_boosted_rounds())
    trees = booster.inplace_predict(matrix, iteration_range=(0, last), predict_type="margin")
    return np.asarray(trees, dtype=np.float64)


def best_rounds(fitted: Sequence[ValidatedBooster], weights: FloatArray) -> int:
    """The number of rounds that minimizes the weighted mean of the validation log losses; after early stopping, the
    last loss counts."""
    longest = max(len(each.losses) for each in fitted)
    padded = [np.pad(each.losses, (0, longest - len(each.losses)), mode="edge") for each in fitted]
    return int(np.average(padded, axis=0, weights=weights).argmin()) + 1


def column_weights(encoders: Sequence[ColumnEncoder]) -> Matrix:
    """How often a feature is offered to a tree: each column of the dataset alike, however many numbers it has become.

    Otherwise two embeddings of 16 components each would crowd out the profile's history.
    """
    return np.array([1 / len(encoder.names) for encoder in encoders for _ in encoder.names], dtype=np.float32)


def _threads(matrix: Any) -> int:
    """0: all."""
    return 1 if matrix.size < SINGLE_THREAD_CELLS else 0
