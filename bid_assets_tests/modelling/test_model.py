from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from bid_assets.modelling.dataset.assemble import feature_columns
from bid_assets.modelling.estimators.calibration import IDENTITY
from bid_assets.modelling.estimators.column_encoders import ColumnMismatchError
from bid_assets.modelling.model import BASE_VALUE, BidSuccessModel
from bid_assets.modelling.model_file import content_hash, to_plain
from bid_assets.modelling.training import train
from bid_assets.version_store.content_hash import plain_hash
from bid_assets_tests.modelling.conftest import QUICK

CHILD = """
from bid_assets.modelling.model_file import content_hash
from bid_assets.modelling.training import train
from bid_assets_tests.modelling.conftest import QUICK, where_history_decides
from bid_assets_tests.modelling.market import market
dataset = market().dataset()
for rows in (dataset, where_history_decides(dataset)):
    print(content_hash(train(rows, QUICK, "an-encoder")))
"""


def test_probabilities_are_float64_between_0_and_1_one_per_row(model: BidSuccessModel, dataset: pa.Table) -> None:
    probability = model.predict(dataset)
    assert probability.dtype == np.float64
    assert probability.shape == (dataset.num_rows,)
    assert ((probability > 0) & (probability < 1)).all()


def test_a_model_scores_a_table_that_has_nothing_but_its_features_and_the_profiles(
    model: BidSuccessModel, dataset: pa.Table
) -> None:
    alone = dataset.select([*feature_columns(dataset)[::-1], "profile_id"])
    np.testing.assert_array_equal(model.predict(alone), model.predict(dataset))


@pytest.mark.parametrize("kind", ["model", "blended_model"])
def test_a_row_scores_the_same_alone_as_among_others(kind: str, dataset: pa.Table, request: pytest.FixtureRequest) -> None:
    model: BidSuccessModel = request.getfixturevalue(kind)
    together = model.predict(dataset.slice(0, 200))
    alone = [model.predict(dataset.slice(row, 1))[0] for row in range(200)]
    np.testing.assert_array_equal(alone, together)


def test_no_rows_give_no_probabilities(model: BidSuccessModel, dataset: pa.Table) -> None:
    assert model.predict(dataset.slice(0, 0)).shape == (0,)


def test_a_table_that_does_not_fit_is_one_error_that_names_all_columns(model: BidSuccessModel, dataset: pa.Table) -> None:
    broken = dataset.drop_columns(["rate", "skills"])
    with pytest.raises(ColumnMismatchError, match="column 'rate' is missing; column 'skills' is missing"):
        model.predict(broken)


@pytest.mark.parametrize("kind", ["model", "blended_model", "calibrated_model"])
def test_contributions_add_up_to_the_log_odds(kind: str, dataset: pa.Table, request: pytest.FixtureRequest) -> None:
    model: BidSuccessModel = request.getfixturevalue(kind)
    names, contributions = model.contributions(dataset.slice(0, 50))
    assert names == [*model.feature_names, BASE_VALUE]
    probability = model.predict(dataset.slice(0, 50))
    np.testing.assert_allclose(contributions.sum(axis=1), np.log(probability / (1 - probability)), atol=1e-4)


def test_the_history_has_a_say_where_history_decides(blended_model: BidSuccessModel) -> None:
    assert blended_model.history_logit is not None
    assert 0 < blended_model.history_weight <= QUICK.max_linear_weight
    names = [blended_model.feature_names[column] for column in blended_model.history_logit.columns]
    assert names == ["rate", "bids", "profile_rating"]


def test_a_calibration_that_wins_is_applied_after_the_blend(calibrated_model: BidSuccessModel, dataset: pa.Table) -> None:
    assert calibrated_model.training["calibration"] == calibrated_model.calibration.method == "sigmoid"
    assert abs(calibrated_model.calibration.slope - 1) > 0.1
    log_odds = calibrated_model.log_odds(dataset)
    assert (calibrated_model.predict(dataset) == calibrated_model.calibration.probability(log_odds)).all()


def test_by_default_nothing_is_calibrated(model: BidSuccessModel) -> None:
    assert model.calibration is IDENTITY
    assert model.training["calibration"] == "none"


def test_the_log_odds_are_the_weighted_average_of_trees_and_history(blended_model: BidSuccessModel, dataset: pa.Table) -> None:
    def log_odds(weight: float) -> np.ndarray:
        probability = replace(blended_model, history_weight=weight).predict(dataset)
        return np.log(probability / (1 - probability))

    np.testing.assert_allclose(log_odds(0.25), 0.75 * log_odds(0.0) + 0.25 * log_odds(1.0), atol=1e-9)


def test_scoring_leaves_no_trace_in_the_model(dataset: pa.Table) -> None:
    model = train(dataset, replace(QUICK, max_rounds=3), None)
    before = plain_hash(to_plain(model))
    model.predict(dataset)
    assert plain_hash(to_plain(model)) == before


def test_the_same_dataset_gives_the_same_hash_in_another_process_with_other_threads(
    model: BidSuccessModel, blended_model: BidSuccessModel
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    child = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True)
    assert child.stdout.split() == [content_hash(each) for each in (model, blended_model)]


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.123},
        {"encoder_fingerprint": "another"},
        {"booster": b"other trees"},
        {"history_logit": None},
        {"history_weight": 0.123},
        {"parameters": replace(QUICK, seed=5)},
    ],
)
def test_whatever_decides_a_score_or_a_call_is_in_the_hash(blended_model: BidSuccessModel, change: dict[str, object]) -> None:
    assert content_hash(replace(blended_model, **change)) != content_hash(blended_model)  # type: ignore[arg-type]


def test_a_vocabulary_in_another_order_is_another_model(model: BidSuccessModel) -> None:
    swapped = tuple(
        replace(encoder, categories=encoder.categories[::-1]) if encoder.column == "level" else encoder
        for encoder in model.encoders
    )
    assert content_hash(replace(model, encoders=swapped)) != content_hash(model)


def test_the_facts_of_a_model_can_be_written_as_json(model: BidSuccessModel) -> None:
    found = json.loads(json.dumps(model.facts(), allow_nan=False))
    assert found["features"] == len(model.feature_names)
    assert found["fit_rows"] + found["validation_rows"] <= found["train_rows"]


def test_the_schema_names_the_columns_and_types_of_the_dataset(model: BidSuccessModel, dataset: pa.Table) -> None:
    names = [*feature_columns(dataset.drop_columns(["text", "job"])), "profile_id", "text", "job"]
    assert [(field.name, field.type) for field in model.feature_schema] == [
        (name, dataset.schema.field(name).type) for name in names
    ]
