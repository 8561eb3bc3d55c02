"""Whether a model is good enough to be served: rules on its metrics report, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Thresholds:
    """What a model must reach on its holdout."""

    min_roc_auc: float
    max_calibration_error: float
    min_log_loss_gain: float
    """How much its log loss must be below that of the base rate."""


@dataclass(frozen=True)
class Judgement:
    """Whether a model passed, every rule with its figure, and the reason in a sentence."""

    passed: bool
    rules: list[dict[str, Any]]
    """Each: `rule` (text), `figure` (None where it could not be computed), `limit`, `passed`."""
    reason: str


def judge(report: Mapping[str, Any], thresholds: Thresholds) -> Judgement:
    """The judgement on a metrics report. A figure that could not be computed passes no rule."""
    figures = report["model_metrics"]
    gain = _difference((report["baselines"]["base_rate"] or {}).get("log_loss"), figures["log_loss"])
    rules = [
        _rule("ROC AUC at least", figures["roc_auc"], thresholds.min_roc_auc, at_least=True),
        _rule("calibration error at most", figures["calibration_error"], thresholds.max_calibration_error, at_least=False),
        _rule("log loss below the base rate's by at least", gain, thresholds.min_log_loss_gain, at_least=True),
    ]
    failed = [_sentence(rule) for rule in rules if not rule["passed"]]
    if not failed:
        return Judgement(True, rules, f"all {len(rules)} rules passed on {figures['rows']} holdout bids")
    note = f" ({report['note']})" if report.get("note") else ""
    return Judgement(False, rules, "; ".join(failed) + note)


def _rule(text: str, figure: float | None, limit: float, *, at_least: bool) -> dict[str, Any]:
    passed = figure is not None and (figure >= limit if at_least else figure <= limit)
    return {"rule": text, "figure": figure, "limit": limit, "passed": passed}


def _sentence(rule: Mapping[str, Any]) -> str:
    figure = "not computable" if rule["figure"] is None else f"{rule['figure']:.4f}"
    return f"{rule['rule']} {rule['limit']:g}, but it is {figure}"


def _difference(base: float | None, figure: float | None) -> float | None:
    return None if base is None or figure is None else base - figure
