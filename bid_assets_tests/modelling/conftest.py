"""One market, its dataset and its model, made once for all tests of this folder."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import TrainingParameters
from bid_assets.modelling.train import train
from bid_assets_tests.modelling.market import Market, market

QUICK = TrainingParameters(learning_rate=0.1, max_rounds=100, early_stopping_rounds=10, embedding_components=4)


@pytest.fixture(scope="session")
def a_market() -> Market:
    return market()


@pytest.fixture(scope="session")
def dataset(a_market: Market) -> pa.Table:
    return a_market.dataset()


def where_history_decides(dataset: pa.Table) -> pa.Table:
    """The dataset without the columns that say more than history does: its model has a linear part."""
    return dataset.drop_columns(["level", "text", "job", "skills"])


def each_on_a_job_of_its_own(dataset: pa.Table) -> pa.Table:
    """The dataset, its validation bids all on new jobs. They are clearly for the line on everything: this market is a sum."""
    return dataset.set_column(dataset.column_names.index("job_id"), dataset.schema.field("job_id"), dataset["bid_id"])


@pytest.fixture(scope="session")
def blended_model(dataset: pa.Table) -> BidSuccessModel:
    return train(where_history_decides(dataset), QUICK, "an-encoder")


@pytest.fixture(scope="session")
def model(dataset: pa.Table) -> BidSuccessModel:
    return train(dataset, QUICK, "an-encoder")


@pytest.fixture(scope="session")
def model_of_sums(dataset: pa.Table) -> BidSuccessModel:
    return train(each_on_a_job_of_its_own(dataset), QUICK, "an-encoder")


@pytest.fixture(scope="session")
def calibrated_model(a_market: Market) -> BidSuccessModel:
    return train(a_market.dataset(calibration_share=0.4), QUICK, "an-encoder")
