"""Plain trees say what XGBoost says, bit for bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xgboost as xgb
from hypothesis import example, given
from hypothesis import strategies as st

from bid_assets.modelling.estimators.numpy_trees import NumpyTreeEnsemble
from bid_assets.modelling.model import BidSuccessModel


@example(depth=2, rounds=8, rate=0.75, seed=41)  # two bases give its row without values the same number
@given(
    depth=st.integers(1, 7),
    rounds=st.integers(1, 40),
    rate=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32 - 1),
)
def test_property_plain_trees_equal_xgboost_for_any_booster_and_any_rows(
    depth: int, rounds: int, rate: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(200, 6)).round(1).astype(np.float32)  # ties with the conditions of splits
    matrix[random.random(matrix.shape) < 0.2] = np.nan
    success = random.random(200) < rate
    data = xgb.DMatrix(matrix, success)
    booster = xgb.train({"objective": "binary:logistic", "max_depth": depth, "nthread": 1}, data, num_boost_round=rounds)
    matrix[0], matrix[1, :3] = np.nan, (np.inf, -np.inf, 0.0)
    expected = booster.inplace_predict(matrix, predict_type="margin", missing=np.nan)
    assert np.array_equal(NumpyTreeEnsemble.from_booster(booster).log_odds(matrix), expected)


def test_a_model_scores_rows_alone_as_it_scores_them_together(model: BidSuccessModel, dataset: pa.Table) -> None:
    together = model.predict(dataset)
    alone = np.concatenate([model.predict(dataset.slice(row, 1)) for row in range(0, dataset.num_rows, 7)])
    assert np.array_equal(alone, together[::7])
