"""One market, its dataset and its model, made once for all tests of this folder."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import TrainingParameters
from bid_assets.modelling.training import train
from bid_assets_tests.modelling.market import Market, market

QUICK = TrainingParameters(learning_rate=0.1, max_rounds=100, early_stopping_rounds=10, embeddings_in_model=True)


@pytest.fixture(scope="session")
def a_market() -> Market:
    return market()


@pytest.fixture(scope="session")
def dataset(a_market: Market) -> pa.Table:
    return a_market.dataset()


def where_history_decides(dataset: pa.Table) -> pa.Table:
    """The dataset without the columns that say more than history does: its model has a linear part."""
    return dataset.drop_columns(["level", "text", "job", "skills"])


@pytest.fixture(scope="session")
def blended_model(dataset: pa.Table) -> BidSuccessModel:
    return train(where_history_decides(dataset), QUICK, "an-encoder")


@pytest.fixture(scope="session")
def model(dataset: pa.Table) -> BidSuccessModel:
    return train(dataset, QUICK, "an-encoder")


@pytest.fixture(scope="session")
def calibrated_model(dataset: pa.Table) -> BidSuccessModel:
    return train(dataset, replace(QUICK, calibration="sigmoid", max_words_weight=0.0), "an-encoder")
