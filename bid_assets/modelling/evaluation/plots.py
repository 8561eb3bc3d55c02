"""Small pictures of a report and of importances, as PNG bytes. Each stays under 30 KB: the event log keeps it.

matplotlib is imported when the first picture is drawn, without any display (Agg), and without touching its global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa

_WIDTH, _HEIGHT, _DPI = 5.0, 4.0, 80
_BARS = 15
_PRIMARY_COLOR, _SECONDARY_COLOR = "#1f5fa8", "#9aa5b1"


def roc_png(report: Mapping[str, Any]) -> bytes:
    """The ROC curve on the holdout."""
    figure, axes = _figure()
    curve, auc = report["curves"]["roc"], report["model_metrics"]["roc_auc"]
    axes.plot([0, 1], [0, 1], color=_SECONDARY_COLOR, linestyle="--", linewidth=1)
    if curve is None:
        _annotate(axes, report.get("note") or "no ROC curve")
    else:
        axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], color=_PRIMARY_COLOR, linewidth=1.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_title("ROC" if auc is None else f"ROC, AUC {auc:.3f}")
    return _png(figure)


def calibration_png(report: Mapping[str, Any]) -> bytes:
    """What happened against what was predicted, in bins of equal mass; a dot's area grows with its rows."""
    figure, axes = _figure()
    bins, error = report["curves"]["calibration"], report["model_metrics"]["calibration_error"]
    axes.plot([0, 1], [0, 1], color=_SECONDARY_COLOR, linestyle="--", linewidth=1)
    if not bins:
        _annotate(axes, report.get("note") or "no bids")
    most = max((b["rows"] for b in bins), default=1)
    axes.plot([b["mean_probability"] for b in bins], [b["label_rate"] for b in bins], color=_PRIMARY_COLOR, linewidth=1)
    axes.scatter(
        [b["mean_probability"] for b in bins],
        [b["label_rate"] for b in bins],
        s=[10 + 40 * b["rows"] / most for b in bins],
        color=_PRIMARY_COLOR,
    )
    lowest = min((min(b["mean_probability"], b["label_rate"]) for b in bins), default=0.0)
    highest = max((max(b["mean_probability"], b["label_rate"]) for b in bins), default=1.0)
    limits = (max(0.0, lowest - 0.05), min(1.0, highest + 0.05))
    axes.set(xlabel="predicted probability of success", ylabel="rate of success", xlim=limits, ylim=limits)
    axes.set_title("Calibration" if error is None else f"Calibration, error {error:.3f}")
    return _png(figure)


def importances_png(importances: pa.Table) -> bytes:
    """The features with the largest mean |SHAP|, at most 15."""
    top = importances.slice(0, _BARS)
    names = [_short(name) for name in top["feature"].to_pylist()]
    figure, axes = _figure(height=1.0 + 0.2 * max(len(names), 4))
    axes.barh(range(len(names)), top["mean_abs_shap"].to_pylist(), color=_PRIMARY_COLOR)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("mean |SHAP|, log-odds")
    axes.set_title("What the model looks at")
    return _png(figure)


def over_time_png(steps: Sequence[Mapping[str, Any]], policies: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A walk over history: what was expected at each cutoff and what came, with intervals; below, log loss of each
    policy by window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * _WIDTH, 2 * _HEIGHT), dpi=_DPI, layout="constrained")
    top, bottom = figure.subplots(2, 1)
    steps_with_model = [step for step in steps if step.get("outlook") and step["later"]["roc_auc"] is not None]
    days = [step["cutoff"][:10] for step in steps_with_model]
    expected = [(step["outlook"]["roc_auc"]["expected"], step["outlook"]["roc_auc"]["interval"]) for step in steps_with_model]
    later = [(step["later"]["roc_auc"], step["later"]["intervals"]["roc_auc"]) for step in steps_with_model]
    for name, points, color, shift in (("expected", expected, _SECONDARY_COLOR, -0.1), ("later", later, _PRIMARY_COLOR, 0.1)):
        top.plot([n + shift for n in range(len(points))], [value for value, _ in points], "o-", color=color, label=name)
        for n, (_, interval) in enumerate(points):
            if interval is not None:
                top.plot([n + shift] * 2, interval, color=color, linewidth=1)
    top.set(ylabel="ROC AUC", title="What was to be expected of each model, and how it did on the bids that came")
    top.set_xticks(range(0, len(days), max(1, len(days) // 8)), days[:: max(1, len(days) // 8)])
    if steps_with_model:
        top.legend()
    for name, costs in policies.items():
        windows = [row["window"] for row in costs["by_window"]]
        bottom.plot(windows, [row["log_loss"] for row in costs["by_window"]], label=name, linewidth=1.4)
        bottom.set_xticks(range(0, len(windows), max(1, len(windows) // 8)), windows[:: max(1, len(windows) // 8)])
    bottom.set(ylabel="log loss", title="Log loss by window under each retraining policy")
    if policies:
        bottom.legend()
    return _png(figure)


def _figure(height: float = _HEIGHT) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _annotate(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", wrap=True, transform=axes.transAxes)


def _short(name: str, length: int = 36) -> str:
    # a "$" would start matplotlib's math mode
    name = name if len(name) <= length else f"{name[: length - 1]}…"
    return name.replace("$", r"\$")
