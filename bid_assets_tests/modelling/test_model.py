from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.modelling.dataset import feature_columns
from bid_assets.modelling.model import BASE, BidSuccessModel
from bid_assets.modelling.preprocess import WrongColumns
from bid_assets.modelling.train import train
from bid_assets_tests.modelling.conftest import QUICK
from bid_assets_tests.modelling.market import Market

CHILD = """
from bid_assets.modelling.train import train
from bid_assets_tests.modelling.conftest import QUICK, each_on_a_job_of_its_own, where_history_decides
from bid_assets_tests.modelling.market import market
dataset = market().dataset()
for rows in (dataset, where_history_decides(dataset), each_on_a_job_of_its_own(dataset)):
    print(train(rows, QUICK, "an-encoder").content_hash())
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


@pytest.mark.parametrize("kind", ["model", "blended_model", "model_of_sums"])
def test_a_row_scores_the_same_alone_as_among_others(kind: str, dataset: pa.Table, request: pytest.FixtureRequest) -> None:
    model: BidSuccessModel = request.getfixturevalue(kind)
    together = model.predict(dataset.slice(0, 200))
    alone = [model.predict(dataset.slice(row, 1))[0] for row in range(200)]
    np.testing.assert_array_equal(alone, together)


def test_no_rows_give_no_probabilities(model: BidSuccessModel, dataset: pa.Table) -> None:
    assert model.predict(dataset.slice(0, 0)).shape == (0,)


def test_a_table_that_does_not_fit_is_one_error_that_names_all_columns(model: BidSuccessModel, dataset: pa.Table) -> None:
    broken = dataset.drop_columns(["rate", "skills"])
    with pytest.raises(WrongColumns, match="column 'rate' is missing; column 'skills' is missing"):
        model.predict(broken)


@pytest.mark.parametrize("kind", ["model", "blended_model", "model_of_sums", "calibrated_model"])
def test_contributions_add_up_to_the_log_odds(kind: str, dataset: pa.Table, request: pytest.FixtureRequest) -> None:
    model: BidSuccessModel = request.getfixturevalue(kind)
    names, contributions = model.contributions(dataset.slice(0, 50))
    assert names == [*model.feature_names, BASE]
    probability = model.predict(dataset.slice(0, 50))
    np.testing.assert_allclose(contributions.sum(axis=1), np.log(probability / (1 - probability)), atol=1e-4)


def test_a_linear_part_has_a_say_where_history_decides_and_none_where_the_text_does(
    model: BidSuccessModel, blended_model: BidSuccessModel
) -> None:
    assert (model.linear, model.linear_weight) == (None, 0.0)
    assert blended_model.linear is not None
    assert 0 < blended_model.linear_weight <= QUICK.max_linear_weight
    names = [blended_model.feature_names[column] for column in blended_model.linear.columns]
    assert names == ["rate", "bids", "profile_rating"]


def test_the_bids_of_some_profiles_calibrate_and_do_not_train(calibrated_model: BidSuccessModel, a_market: Market) -> None:
    dataset = a_market.dataset(calibration_share=0.4)
    rows = {name: dataset.filter(pc.equal(dataset["split"], name)) for name in ("train", "calibration")}
    assert not set(rows["train"]["profile_id"].to_pylist()) & set(rows["calibration"]["profile_id"].to_pylist())
    assert calibrated_model.training["train_rows"] == rows["train"].num_rows
    assert calibrated_model.training["calibration_rows"] == rows["calibration"].num_rows
    assert calibrated_model.calibration.kind == calibrated_model.training["calibration"] == "sigmoid"
    log_odds = calibrated_model.log_odds(dataset)
    assert (calibrated_model.predict(dataset) == calibrated_model.calibration.probability(log_odds)).all()


def test_the_line_on_everything_has_a_say_only_where_validation_has_new_jobs(
    model: BidSuccessModel, model_of_sums: BidSuccessModel
) -> None:
    assert (model.line_of_all, model.line_of_all_weight) == (None, 0.0)
    assert model_of_sums.line_of_all is not None
    assert 0 < model_of_sums.line_of_all_weight <= QUICK.max_linear_weight


def test_the_line_on_everything_sees_components_that_the_trees_do_not(model_of_sums: BidSuccessModel) -> None:
    model = model_of_sums
    beyond = [encoding for encoding in model.encodings if encoding.names[0].endswith(f"[{QUICK.embedding_components}]")]
    assert [encoding.column for encoding in beyond] == ["text", "job"]
    assert len(model.line_of_all.columns) == model.numbers  # type: ignore[union-attr]
    assert model.numbers == model.of_trees + sum(len(encoding.names) for encoding in beyond)


def test_without_a_line_on_everything_no_component_is_kept_that_nobody_reads(model: BidSuccessModel) -> None:
    assert model.line_of_all is None
    assert model.numbers == model.of_trees


def test_the_log_odds_are_the_weighted_average_of_trees_and_history(blended_model: BidSuccessModel, dataset: pa.Table) -> None:
    def log_odds(weight: float) -> np.ndarray:
        probability = replace(blended_model, linear_weight=weight).predict(dataset)
        return np.log(probability / (1 - probability))

    np.testing.assert_allclose(log_odds(0.25), 0.75 * log_odds(0.0) + 0.25 * log_odds(1.0), atol=1e-9)


def test_a_model_comes_back_from_joblib_as_it_was(blended_model: BidSuccessModel, dataset: pa.Table, tmp_path: Path) -> None:
    model = blended_model
    model.predict(dataset)
    joblib.dump(model, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    assert again.content_hash() == model.content_hash()
    np.testing.assert_array_equal(again.predict(dataset), model.predict(dataset))


def test_scoring_leaves_no_trace_in_the_model(dataset: pa.Table) -> None:
    model = train(dataset, replace(QUICK, max_rounds=3), None)
    before = pickle.dumps(model)
    model.predict(dataset)
    assert pickle.dumps(model) == before


def test_the_same_dataset_gives_the_same_hash_in_another_process_with_other_threads(
    model: BidSuccessModel, blended_model: BidSuccessModel, model_of_sums: BidSuccessModel
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    child = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True)
    assert child.stdout.split() == [each.content_hash() for each in (model, blended_model, model_of_sums)]


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.123},
        {"encoder_fingerprint": "another"},
        {"trees": b"other trees"},
        {"linear": None},
        {"linear_weight": 0.123},
        {"parameters": replace(QUICK, seed=5)},
    ],
)
def test_whatever_decides_a_score_or_a_call_is_in_the_hash(blended_model: BidSuccessModel, change: dict[str, object]) -> None:
    assert replace(blended_model, **change).content_hash() != blended_model.content_hash()  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"line_of_all": None}, {"line_of_all_weight": 0.123}])
def test_the_line_on_everything_is_in_the_hash(model_of_sums: BidSuccessModel, change: dict[str, object]) -> None:
    assert replace(model_of_sums, **change).content_hash() != model_of_sums.content_hash()  # type: ignore[arg-type]


def test_a_vocabulary_in_another_order_is_another_model(model: BidSuccessModel) -> None:
    swapped = tuple(
        replace(encoding, values=encoding.values[::-1]) if encoding.column == "level" else encoding
        for encoding in model.encodings
    )
    assert replace(model, encodings=swapped).content_hash() != model.content_hash()


def test_the_facts_of_a_model_can_be_written_as_json(model: BidSuccessModel) -> None:
    found = json.loads(json.dumps(model.facts(), allow_nan=False))
    assert found["features"] == len(model.feature_names)
    assert found["fit_rows"] + found["validation_rows"] <= found["train_rows"]


def test_the_schema_names_the_columns_and_types_of_the_dataset(model: BidSuccessModel, dataset: pa.Table) -> None:
    names = [*feature_columns(dataset), "profile_id"]
    assert [(field.name, field.type) for field in model.feature_schema] == [
        (name, dataset.schema.field(name).type) for name in names
    ]
