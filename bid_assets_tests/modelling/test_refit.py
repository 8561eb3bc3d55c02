"""`refit_on_holdout`: what is served has learned from the holdout, what is reported has not."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.modelling.evaluation.report import evaluate
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.model_file import content_hash
from bid_assets.modelling.training import train
from bid_assets_tests.modelling.conftest import QUICK


@pytest.fixture(scope="module")
def served(dataset: pa.Table) -> BidSuccessModel:
    return train(dataset, replace(QUICK, refit_on_holdout=True), "an-encoder")


def test_the_holdout_model_is_the_model_that_is_made_without_the_setting(
    served: BidSuccessModel, model: BidSuccessModel
) -> None:
    assert served.holdout_model is not None
    assert served.holdout_model.booster == model.booster
    assert served.booster != model.booster


def test_reports_are_about_the_holdout_model_and_say_so(
    served: BidSuccessModel, model: BidSuccessModel, dataset: pa.Table
) -> None:
    of_served, of_model = evaluate(served, dataset), evaluate(model, dataset)
    assert of_served["model_metrics"] == of_model["model_metrics"]
    assert of_served["refitted_rows"] == pc.sum(pc.is_in(dataset["split"], pa.array(["train", "embargo", "holdout"]))).as_py()
    assert of_model["refitted_rows"] is None


def test_what_is_served_has_learned_from_the_holdout(
    served: BidSuccessModel, model: BidSuccessModel, dataset: pa.Table
) -> None:
    holdout = dataset.filter(pc.equal(dataset["split"], "holdout"))
    success = holdout["target_is_success"].to_numpy()
    right = [abs(one.predict(holdout) - success).mean() for one in (served, model)]
    assert right[0] < right[1]


def test_the_hash_tells_them_apart(served: BidSuccessModel, model: BidSuccessModel) -> None:
    assert content_hash(served) != content_hash(model)
