"""A model judged on the holdout of its dataset, beside two baselines: base rate, and logistic regression on history only.

Imports scikit-learn: import this module only where a model is judged. The figures themselves are in `metrics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.modelling import linear, metrics, preprocess
from bid_assets.modelling.metrics import Labels, Probabilities
from bid_assets.modelling.model import BidSuccessModel


def evaluate(model: BidSuccessModel, dataset: pa.Table) -> dict[str, Any]:
    """The metrics report on the dataset's holdout, JSON-able: a figure that cannot be computed is null, and `note` says why.

    Keys: `rows`, `model_metrics`, `baselines` (`base_rate`, `history_logistic_regression`; the same figures), `curves`
    (`roc`, `calibration`, of the model), `note`.
    """
    train, holdout = (dataset.filter(pc.equal(dataset["split"], name)) for name in ("train", "holdout"))
    success, known = labels(holdout), labels(train)
    rarer_is_success = metrics.success_is_rarer(known)
    probability = model.predict(holdout)
    embargo = dataset.num_rows - train.num_rows - holdout.num_rows

    def judged(values: Probabilities, threshold: float) -> dict[str, Any]:
        return metrics.all_metrics(success, values, threshold, rarer_is_success)

    history, threshold = history_baseline(train, holdout, rarer_is_success)
    return {
        "rows": {"train": train.num_rows, "holdout": holdout.num_rows, "embargo": embargo},
        "rarer_class": "success" if rarer_is_success else "failure",
        "train_label_rate": float(known.mean()) if len(known) else None,
        "holdout_label_rate": float(success.mean()) if len(success) else None,
        "holdout_from": _first(holdout),
        "model_metrics": judged(probability, model.threshold),
        "baselines": {
            "base_rate": judged(np.full(len(success), known.mean()), 0.5) if len(known) else None,
            "history_logistic_regression": None if history is None else judged(history, threshold),
        },
        "curves": {
            "roc": metrics.roc_points(success, probability),
            "calibration": metrics.calibration_bins(success, probability),
        },
        "note": _note(success),
    }


def history_baseline(train: pa.Table, holdout: pa.Table, rarer_is_success: bool) -> tuple[Probabilities | None, float]:
    """Probabilities of a logistic regression on the profile's history alone, and its threshold, both learnt from `train`.

    None where the dataset has no history features, or `train` fewer than two classes.
    """
    columns, known = linear.history_columns(train), labels(train)
    if not columns or len(np.unique(known)) < 2:
        return None, 0.5
    encodings = preprocess.fit(train, columns, vocabulary_size=0, embedding_components=1)
    matrix = preprocess.encode(train, encodings)
    regression = linear.fit(matrix, known, range(matrix.shape[1]))
    threshold = metrics.best_f1_threshold(known, linear.probability(regression.log_odds(matrix)), rarer_is_success)
    return linear.probability(regression.log_odds(preprocess.encode(holdout, encodings))), threshold


def labels(rows: pa.Table) -> Labels:
    """Whether each row is a success."""
    return np.asarray(rows["target_is_success"], dtype=bool)


def _first(rows: pa.Table) -> str | None:
    return pc.min(rows["submitted_at"]).as_py().isoformat() if rows.num_rows else None


def _note(success: Labels) -> str | None:
    if not len(success):
        return "the holdout is empty: no figure can be computed"
    if len(np.unique(success)) < 2:
        only = "successes" if success[0] else "failures"
        return f"the holdout holds {only} only: ROC AUC and average precision need both classes"
    return None
