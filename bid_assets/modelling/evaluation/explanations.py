"""Feature importances: gain and weight of its trees, and mean |SHAP| of the whole model over rows of its dataset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.modelling.model import BidSuccessModel

SHAP_ROWS = 2_000
"""SHAP values are averaged over at most this many rows, spread evenly over the dataset's time: they are costly."""

SCHEMA = pa.schema(
    [
        pa.field("feature", pa.string(), nullable=False),
        pa.field("source_column", pa.string(), nullable=False),
        pa.field("gain", pa.float64(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("mean_abs_shap", pa.float64(), nullable=False),
    ]
)


def feature_importances(model: BidSuccessModel, dataset: pa.Table) -> pa.Table:
    """One row per feature, by mean |SHAP| (log-odds) downwards.

    `gain`: mean gain in loss of the trees' splits on it; `weight`: number of such splits; `mean_abs_shap`: of trees and linear
    part together; `source_column`: the dataset's column.
    """
    rows = evenly_spaced_rows(dataset.num_rows)
    _, contributions = model.contributions(dataset.take(pa.array(rows)))
    shap = np.abs(contributions[:, :-1]).mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(len(model.feature_names))
    table = pa.table(
        {
            "feature": model.feature_names,
            "source_column": [encoder.column for encoder in model.encoders for _ in encoder.names],
            "gain": model.booster_importance("gain"),
            "weight": model.booster_importance("weight"),
            "mean_abs_shap": shap,
        },
        schema=SCHEMA,
    )
    return table.sort_by([("mean_abs_shap", "descending"), ("gain", "descending"), ("feature", "ascending")])


def evenly_spaced_rows(rows: int) -> npt.NDArray[np.int64]:
    """At most `SHAP_ROWS` of so many rows, spread evenly."""
    return np.unique(np.linspace(0, rows - 1, min(SHAP_ROWS, rows)).round().astype(np.int64))
