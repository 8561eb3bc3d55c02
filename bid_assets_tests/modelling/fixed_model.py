"""A model of a fixed dataset with fixed parameters, and what it was when it was recorded: whoever renames or moves
proves that nothing changed.

`python -m bid_assets_tests.modelling.fixed_model` records the content hash for the platform that it runs on.
`--probabilities` records the probabilities too: only for a change of the method, which is to be said in its commit.
"""

from __future__ import annotations

import json
import platform
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_info

from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.model_file import content_hash
from bid_assets.modelling.parameters import TrainingParameters
from bid_assets.modelling.training import train

DATA = Path(__file__).parent / "data"
RECORD = DATA / "fixed_model.json"
OLD_MODEL = DATA / "model_of_format_7.joblib"
"""The model of the same dataset and parameters as the code of format 7 saved it (commit ee9c39a)."""

PARAMETERS = TrainingParameters(
    learning_rate=0.03,
    max_rounds=12,
    early_stopping_rounds=5,
    max_depth=2,
    max_linear_weight=0.3,
    max_words_weight=0.4,
    embeddings_in_model=True,
    calibration="sigmoid",
    refit_on_holdout=True,
)
"""With these the model has a part of every kind."""


def record() -> dict[str, Any]:
    """`content_hashes` by platform, `probabilities` of `rows()`, `content_hash_of_format_7`."""
    recorded: dict[str, Any] = json.loads(RECORD.read_text())
    return recorded


@cache
def fixed_dataset() -> pa.Table:
    """600 bids, a column of every type that a model learns from."""
    return pq.read_table(DATA / "fixed_dataset.parquet")


def rows() -> pa.Table:
    """64 of them, from the oldest to the newest."""
    return fixed_dataset().take(pa.array(range(0, 576, 9)))


@cache
def fixed_model() -> BidSuccessModel:
    """The model of the dataset."""
    return train(fixed_dataset(), PARAMETERS, "an-encoder")


def platform_name() -> str:
    """What the last bits of a sum may hang on: versions of the numerical libraries, machine, the kernels that BLAS has
    chosen."""
    libraries = [f"{name} {version(name)}" for name in ("xgboost", "numpy", "scipy", "scikit-learn")]
    kernels = sorted({str(each.get("architecture")) for each in threadpool_info() if each["user_api"] == "blas"})
    return ", ".join([*libraries, platform.system(), platform.machine(), *kernels])


def main() -> None:
    """Record."""
    recorded = record()
    recorded["content_hashes"][platform_name()] = content_hash(fixed_model())
    if "--probabilities" in sys.argv:
        recorded["probabilities"] = np.asarray(fixed_model().predict(rows())).tolist()
    RECORD.write_text(json.dumps(recorded, indent=2) + "\n")


if __name__ == "__main__":
    main()
