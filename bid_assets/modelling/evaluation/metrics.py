"""Metrics of predicted probabilities against outcomes. Pure NumPy and scikit-learn; imported only where models are evaluated.

`success` is a bool array of shape (rows,), `probability` float of the same shape: the probability of success. Metrics that
the rows cannot give (no row, one class only) are None, never NaN, so that every result is JSON-able.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

Labels = npt.NDArray[np.bool_]
Probabilities = npt.NDArray[np.float64]

CALIBRATION_BINS = 10
_CURVE_POINTS = 200
_SCORE_BINS = 20
_EPSILON = 1e-7
"""Log loss takes no probability to be nearer to 0 or 1 than single precision can say."""


def all_metrics(success: Labels, probability: Probabilities, threshold: float, rarer_is_success: bool) -> dict[str, Any]:
    """Every metric by name, with counts. With one class only, ranking metrics are None; with no row, all are."""
    return {
        "rows": len(success),
        "successes": int(success.sum()),
        "failures": int((~success).sum()),
        **ranking_metrics(success, probability, rarer_is_success),
        **probability_metrics(success, probability),
        **threshold_metrics(success, probability, threshold),
    }


def success_is_rarer(success: Labels) -> bool:
    """Whether successes are fewer than failures."""
    return bool(len(success) and success.mean() < 0.5)


def ranking_metrics(success: Labels, probability: Probabilities, rarer_is_success: bool) -> dict[str, float | None]:
    """ROC AUC, and average precision for finding the successes and for finding the rarer class."""
    if len(np.unique(success)) < 2:
        return dict.fromkeys(("roc_auc", "average_precision", "average_precision_rarer"))
    of_successes = float(average_precision_score(success, probability))
    return {
        "roc_auc": float(roc_auc_score(success, probability)),
        "average_precision": of_successes,
        "average_precision_rarer": of_successes if rarer_is_success else float(average_precision_score(~success, -probability)),
    }


def probability_metrics(success: Labels, probability: Probabilities) -> dict[str, float | None]:
    """Log loss (nats), Brier score and expected calibration error."""
    if not len(success):
        return dict.fromkeys(("log_loss", "brier", "calibration_error"))
    bins = calibration_bins(success, probability)
    return {
        "log_loss": float(log_losses(success, probability).mean()),
        "brier": float(np.square(probability - success).mean()),
        "calibration_error": sum(b["rows"] * abs(b["label_rate"] - b["mean_probability"]) for b in bins) / len(success),
    }


def log_losses(success: Labels, probability: Probabilities) -> Probabilities:
    """The log loss of each row, nats."""
    bounded = np.clip(probability, _EPSILON, 1 - _EPSILON)
    return np.asarray(-np.log(np.where(success, bounded, 1 - bounded)), dtype=np.float64)


def log_losses_of_log_odds(success: Labels, log_odds: Probabilities) -> Probabilities:
    """The log loss of each row, nats; exact for any log-odds, however far from 0."""
    return np.asarray(np.logaddexp(0, log_odds) - success * log_odds)


def calibration_bins(success: Labels, probability: Probabilities) -> list[dict[str, Any]]:
    """The rows in up to `CALIBRATION_BINS` bins of equal mass by probability: rows, mean probability, label rate of each.

    Expected calibration error is the mean of |label rate - mean probability| over these bins, weighted by rows (Naeini,
    Cooper, Hauskrecht: Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015), here with bins of equal
    mass (Nguyen, O'Connor: Posterior calibration and exploratory analysis, EMNLP 2015). Equal probabilities share a bin.
    """
    if not len(success):
        return []
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]))
    number = np.searchsorted(edges, probability, side="right")
    rows = np.bincount(number, minlength=len(edges) + 1)
    predicted, happened = (np.bincount(number, values, len(edges) + 1) for values in (probability, success))
    return [
        {"rows": int(n), "mean_probability": float(p / n), "label_rate": float(s / n)}
        for n, p, s in zip(rows, predicted, happened, strict=True)
        if n
    ]


def threshold_metrics(success: Labels, probability: Probabilities, threshold: float) -> dict[str, Any]:
    """Precision, recall and F1 of calling success from `threshold` on, the same for calling failure, and the counts."""
    called = probability >= threshold
    tp, fp = int((called & success).sum()), int((called & ~success).sum())
    fn, tn = int((~called & success).sum()), int((~called & ~success).sum())
    return {
        "threshold": threshold,
        "confusion_matrix": {"true_positive": tp, "false_positive": fp, "false_negative": fn, "true_negative": tn},
        **_precision_recall("", tp, fp, fn),
        **_precision_recall("_of_failure", tn, fn, fp),
    }


def roc_points(success: Labels, probability: Probabilities) -> dict[str, list[float]] | None:
    """The ROC curve, thinned to at most 200 points; None with one class only."""
    if len(np.unique(success)) < 2:
        return None
    false_positive, true_positive, _ = roc_curve(success, probability)
    kept = _thin(len(false_positive))
    return {
        "false_positive_rate": false_positive[kept].round(5).tolist(),
        "true_positive_rate": true_positive[kept].round(5).tolist(),
    }


def precision_recall_points(success: Labels, probability: Probabilities) -> dict[str, list[float]] | None:
    """Precision against recall of finding successes, thinned to at most 200 points; None with one class only."""
    if len(np.unique(success)) < 2:
        return None
    precision, recall, _ = precision_recall_curve(success, probability)
    kept = _thin(len(precision))
    return {"recall": recall[kept].round(5).tolist(), "precision": precision[kept].round(5).tolist()}


def score_histogram(success: Labels, probability: Probabilities) -> dict[str, list[Any]]:
    """How many successes and failures have a probability in each of 20 bins of equal width."""
    edges = np.linspace(0, 1, _SCORE_BINS + 1)
    counts = {
        name: np.histogram(probability[chosen], edges)[0].tolist()
        for name, chosen in {"successes": success, "failures": ~success}.items()
    }
    return {"edges": edges.round(3).tolist(), **counts}


def best_f1_threshold(success: Labels, probability: Probabilities, rarer_is_success: bool) -> float:
    """The threshold with the best F1 for the rarer class, half-way to the next probability; 0.5 with one class only.

    F1 of the commoner class would be of no use: calling everything so is nearly always the best for it.
    """
    if len(np.unique(success)) < 2:
        return 0.5
    rarer, score = (success, probability) if rarer_is_success else (~success, -probability)
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(rarer[order])
    last_of_equals = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    f1 = 2 * hits[last_of_equals] / (last_of_equals + 1 + hits[-1])
    cut = last_of_equals[int(f1.argmax())]
    following = np.append(score, score[-1] - _EPSILON)[cut + 1]
    return float(abs(score[cut] + following) / 2)


def _thin(points: int) -> npt.NDArray[np.int64]:
    """Which of so many points of a curve are kept."""
    return np.unique(np.linspace(0, points - 1, _CURVE_POINTS).round().astype(np.int64))


def _precision_recall(suffix: str, hits: int, false_alarms: int, missed: int) -> dict[str, float | None]:
    called, there = hits + false_alarms, hits + missed
    return {
        f"precision{suffix}": hits / called if called else None,
        f"recall{suffix}": hits / there if there else None,
        f"f1{suffix}": 2 * hits / (called + there) if there else None,
    }
