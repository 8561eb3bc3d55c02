"""Plots of a report, of importances and of a walk forward: which data each shows. `charts` draws them.

Where a report has no data for a plot there is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from bid_assets.modelling.evaluation.charts import Axes, Series, bars, histogram, line_chart, nice_range

_MAX_BARS = 15


def roc(report: Mapping[str, Any]) -> Markup | None:
    """The ROC curve on the holdout."""
    if not (curve := report["curves"].get("roc")):
        return None
    points = list(zip(curve["false_positive_rate"], curve["true_positive_rate"], strict=True))
    chance = Series("chance", [(0, 0), (1, 1)], dashed=True)
    return line_chart("ROC", Axes("false positive rate", "true positive rate"), [Series("model", points), chance])


def precision_recall(report: Mapping[str, Any]) -> Markup | None:
    """Precision against recall of finding successes on the holdout."""
    if not (curve := report["curves"].get("precision_recall")):
        return None
    rate, points = report["holdout_label_rate"], list(zip(curve["recall"], curve["precision"], strict=True))
    base = Series("base rate", [(0, rate), (1, rate)], dashed=True)
    return line_chart("Precision and recall", Axes("recall", "precision"), [Series("model", points), base])


def calibration(report: Mapping[str, Any]) -> Markup | None:
    """What happened against what was predicted, in bins of equal mass; before calibration too, where that changed anything."""
    curves = report["curves"]
    if not (calibrated := curves.get("calibration")):
        return None
    names = {"model": calibrated}
    if (before := curves.get("calibration_before")) and before != calibrated:
        names = {"calibrated": calibrated, "before calibration": before}
    series = [Series(name, [(b["mean_probability"], b["label_rate"]) for b in bins], dots=True) for name, bins in names.items()]
    perfect = Series("perfect", [(0, 0), (1, 1)], dashed=True)
    return line_chart("Reliability", Axes("predicted probability", "share that succeeded"), [*series, perfect])


def scores(report: Mapping[str, Any]) -> Markup | None:
    """The predicted probabilities of failures and of successes on the holdout."""
    if not (values := report["curves"].get("scores")):
        return None
    counts = {name: values[name] for name in ("failures", "successes")}
    return histogram("Scores", Axes("predicted probability", "bids"), values["edges"], counts)


def importances(rows: Iterable[Mapping[str, Any]], measure: str) -> Markup | None:
    """The features with the largest `measure` (gain, mean_abs_shap), of rows of `feature_importances`."""
    values = sorted(((str(row["feature"]), float(row[measure])) for row in rows), key=lambda value: -value[1])
    return bars("Importances", values[:_MAX_BARS]) if values else None


def shap(report: Mapping[str, Any]) -> Markup | None:
    """The features with the largest mean |SHAP| on the holdout, each with the direction in which it works."""
    if not (rows := report.get("shap")):
        return None
    values = [(f"{row['feature']} {_direction_arrow(row.get('direction'))}", row["mean_abs"]) for row in rows[:_MAX_BARS]]
    return bars("What moves it (SHAP)", values)


def metric_over_windows(name: str, values: Sequence[tuple[str, float | None]]) -> Markup | None:
    """A metric by window; None for fewer than two values."""
    points = [(n, value) for n, (_, value) in enumerate(values) if value is not None]
    if len(points) < 2:
        return None
    return _by_window(f"{name} over the last windows", name, [window for window, _ in values], [Series("", points, dots=True)])


def forecasts(steps: Sequence[Mapping[str, Any]]) -> Markup | None:
    """A walk forward: the ROC AUC that was expected at each cutoff and what it became, with intervals."""
    steps = [step for step in steps if step.get("performance_forecast") and step["later"]["roc_auc"] is not None]
    if not steps:
        return None
    forecasts_of_auc = [step["performance_forecast"]["roc_auc"] for step in steps]
    expected = [(forecast["expected"], forecast["interval"]) for forecast in forecasts_of_auc]
    later = [(step["later"]["roc_auc"], step["later"]["intervals"]["roc_auc"]) for step in steps]
    series = [
        Series(name, [(n + shift, value) for n, (value, _) in enumerate(values)], True, False, [ends for _, ends in values])
        for name, values, shift in (("later", later, 0.05), ("expected", expected, -0.05))
    ]
    return _by_window("Expected and later", "ROC AUC", [step["cutoff"][:10] for step in steps], series)


def policies(costs_by_policy: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    """Log loss by window under each retraining policy."""
    rows = {name: costs["by_window"] for name, costs in costs_by_policy.items()}
    windows = sorted({row["window"] for policy in rows.values() for row in policy})
    series = [
        Series(name, [(windows.index(row["window"]), row["log_loss"]) for row in policy if row["log_loss"] is not None])
        for name, policy in rows.items()
    ]
    return _by_window("Retraining policies", "log loss", windows, series) if windows else None


def _by_window(title: str, measure: str, windows: Sequence[str], series: Sequence[Series]) -> Markup:
    values = [y for line in series for _, y in line.points]
    values += [end for line in series for ends in line.error_bars if ends is not None for end in ends]
    axes = Axes("window", measure, (0, max(len(windows) - 1, 1)), nice_range(values), x_labels=windows)
    return line_chart(title, axes, series)


def _direction_arrow(direction: float | None) -> str:
    return "" if direction is None else "↑" if direction > 0.2 else "↓" if direction < -0.2 else "~"
