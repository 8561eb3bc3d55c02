"""The metrics report: a model evaluated on the holdout of its dataset, beside baselines: base rate, the profile's own
rate, logistic regression.

Imports scikit-learn: import this module only where a model is evaluated. The metrics themselves are in `metrics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.features.family import Role
from bid_assets.features.registry import features_with_role
from bid_assets.modelling.dataset.assemble import labels, rows_in_split
from bid_assets.modelling.dataset.splits import SPLITS
from bid_assets.modelling.estimators import column_encoders
from bid_assets.modelling.estimators.calibration import IDENTITY
from bid_assets.modelling.estimators.history_logistic_regression import (
    compile_history,
    fit_history_regression,
    history_columns,
    history_regression,
)
from bid_assets.modelling.estimators.linear_logit import expit
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.bootstrap import intervals
from bid_assets.modelling.evaluation.explanations import evenly_spaced_rows
from bid_assets.modelling.evaluation.metrics import Labels, Probabilities
from bid_assets.modelling.evaluation.performance_forecast import forecast_performance
from bid_assets.modelling.evaluation.slices import slice_metrics
from bid_assets.modelling.model import BidSuccessModel

PRIOR_OUTCOMES = 5.0
"""A profile's own success rate counts as if it had so many more outcomes, at the base rate."""

SHAP_FEATURES = 20
MAX_SHOWN_TOKENS = 12


def evaluate(model: BidSuccessModel, dataset: pa.Table, holdout: pa.Table | None = None) -> dict[str, Any]:
    """The metrics report on the holdout, JSON-able: a metric that cannot be computed is null, and `note` says why.

    Keys: `rows` by split, `model_metrics`, `baselines` (`base_rate`, `profile_success_rate`, `history_logistic_regression`; the
    same metrics), `curves` (`roc`, `precision_recall`, `calibration`, `calibration_before`, `scores`, of the model),
    `shap`, `intervals` (95 %), `performance_forecast` (what to expect on the bids to come, or null), `slices`, `refitted_rows`
    (of the refit model, if that is served: all metrics are of the model before it), `note`. `holdout`: the holdout rows with
    the texts that the model reads, for a `dataset` without them.
    """
    refitted_rows = model.training.get("refitted_rows")
    model = model.holdout_model or model
    train = rows_in_split(dataset, "train")
    holdout = rows_in_split(dataset, "holdout") if holdout is None else holdout
    success, known = labels(holdout), labels(train)
    rarer_is_success = metrics.success_is_rarer(known)
    log_odds = model.log_odds(holdout)
    probability = model.calibration.probability(log_odds)

    def evaluated(prediction: tuple[Probabilities, float] | None) -> dict[str, Any] | None:
        return None if prediction is None else metrics.all_metrics(success, *prediction, rarer_is_success)

    return {
        "rows": {name: pc.sum(pc.equal(dataset["split"], name)).as_py() or 0 for name in SPLITS},
        "rarer_class": "success" if rarer_is_success else "failure",
        "train_label_rate": float(known.mean()) if len(known) else None,
        "holdout_label_rate": float(success.mean()) if len(success) else None,
        "holdout_from": _moment(pc.min(holdout["submitted_at"])),
        "holdout_until": _moment(pc.max(holdout["submitted_at"])),
        "model_metrics": {
            **metrics.all_metrics(success, probability, model.threshold, rarer_is_success),
            "threshold_objective": model.parameters.threshold_objective,
        },
        "baselines": {
            "base_rate": evaluated((np.full(len(success), known.mean()), 0.5) if len(known) else None),
            "profile_success_rate": evaluated(profile_rate_baseline(train, holdout, rarer_is_success)),
            "history_logistic_regression": evaluated(history_baseline(train, holdout, rarer_is_success)),
        },
        "curves": _curves(success, probability, IDENTITY.probability(log_odds)),
        "shap": shap_summary(model, holdout),
        "words": word_summary(model),
        "intervals": intervals(success, probability, holdout["profile_id"].to_numpy(), rarer_is_success),
        "performance_forecast": forecast_performance(dataset, probability, rarer_is_success),
        "slices": slice_metrics(holdout, success, probability, pc.unique(train["profile_id"]), rarer_is_success),
        "refitted_rows": refitted_rows,
        "note": _note(success),
    }


def _curves(success: Labels, probability: Probabilities, uncalibrated: Probabilities) -> dict[str, Any]:
    return {
        "roc": metrics.roc_points(success, probability),
        "precision_recall": metrics.precision_recall_points(success, probability),
        "calibration": metrics.calibration_bins(success, probability),
        "calibration_before": metrics.calibration_bins(success, uncalibrated),
        "scores": metrics.score_histogram(success, probability),
    }


def profile_rate_baseline(train: pa.Table, holdout: pa.Table, rarer_is_success: bool) -> tuple[Probabilities, float] | None:
    """The profile's own success rate of the 90 days before, drawn to the base rate where it has few outcomes; its threshold.

    None where the dataset has no such history, or `train` fewer than two classes.
    """
    known, counts = labels(train), [*features_with_role(Role.SUCCESSES), *features_with_role(Role.KNOWN_OUTCOMES)]
    if len(np.unique(known)) < 2 or len(counts) != 2 or not set(counts) <= set(train.column_names):
        return None

    def rate(rows: pa.Table) -> Probabilities:
        won, decided = (np.asarray(rows[name].fill_null(0), dtype=np.float64) for name in counts)
        return np.asarray((won + PRIOR_OUTCOMES * known.mean()) / (decided + PRIOR_OUTCOMES), dtype=np.float64)

    return rate(holdout), metrics.best_f1_threshold(known, rate(train), rarer_is_success)


def history_baseline(train: pa.Table, holdout: pa.Table, rarer_is_success: bool) -> tuple[Probabilities, float] | None:
    """Probabilities of a logistic regression on the profile's history alone, and its threshold, both fitted to `train`.

    None where the dataset has no history features, or `train` fewer than two classes.
    """
    columns, known = history_columns(train), labels(train)
    if not columns or len(np.unique(known)) < 2:
        return None
    encoders = column_encoders.fit_encoders(train, columns, vocabulary_size=0)
    pipeline = fit_history_regression(history_regression(), column_encoders.encode(train, encoders), known)
    logit = compile_history(pipeline, range(pipeline.n_features_in_))  # which scores no rows too
    of_train, of_holdout = (expit(logit.log_odds(column_encoders.encode(rows, encoders))) for rows in (train, holdout))
    return of_holdout, metrics.best_f1_threshold(known, of_train, rarer_is_success)


def shap_summary(model: BidSuccessModel, rows: pa.Table) -> list[dict[str, Any]]:
    """The features with the largest mean |SHAP| (log-odds) on at most `SHAP_ROWS` of the rows, and which way each one works.

    `direction`: correlation of the feature's value with what it adds; None where it has no two values.
    """
    sample = rows.take(pa.array(evenly_spaced_rows(rows.num_rows)))
    names, contributions = model.contributions(sample)
    if not len(contributions):
        return []
    matrix, shap = column_encoders.encode(sample, model.encoders), contributions[:, :-1]
    mean_abs = np.abs(shap).mean(axis=0, dtype=np.float64)
    order = np.argsort(-mean_abs, kind="stable")[:SHAP_FEATURES]
    return [
        {"feature": names[n], "mean_abs": float(mean_abs[n]), "direction": _correlation(matrix[:, n], shap[:, n])}
        for n in order
        if mean_abs[n] > 0
    ]


def word_summary(model: BidSuccessModel) -> list[dict[str, Any]]:
    """Of each document whose words count: those that raise the probability most, and those that lower it, the strongest
    first."""
    summary = []
    for score in model.encoders:
        if isinstance(score, column_encoders.TokenLogit):
            order = np.argsort(-score.weights, kind="stable")
            raising, lowering = order[:MAX_SHOWN_TOKENS], order[::-1][:MAX_SHOWN_TOKENS]
            summary.append(
                {
                    "document": score.column,
                    "raising": [score.tokens[n] for n in raising if score.weights[n] > 0],
                    "lowering": [score.tokens[n] for n in lowering if score.weights[n] < 0],
                }
            )
    return summary


def _correlation(values: column_encoders.Matrix, added: column_encoders.Matrix) -> float | None:
    there = ~np.isnan(values)
    values, added = values[there].astype(np.float64), added[there].astype(np.float64)
    if len(values) < 2 or not values.std() or not added.std():
        return None
    return float(np.corrcoef(values, added)[0, 1])


def _moment(value: pa.Scalar) -> str | None:
    return value.as_py().isoformat() if value.is_valid else None


def _note(success: Labels) -> str | None:
    if not len(success):
        return "the holdout is empty: no metric can be computed"
    if len(np.unique(success)) < 2:
        only = "successes" if success[0] else "failures"
        return f"the holdout holds {only} only: ROC AUC and average precision need both classes"
    return None
