"""Acceptance rules of a model: metrics against limits, and the result in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class AcceptanceThresholds:
    """What a model must reach on its holdout."""

    min_roc_auc: float
    max_calibration_error: float
    min_log_loss_gain: float
    """How much its log loss must be below that of the base rate."""


@dataclass(frozen=True)
class PromotionThresholds:
    """When a challenger takes the champion's place. How the defaults do: docs/research-log/, `bench_promotion`."""

    required_improvement: float
    """Of log loss, nats, for a challenger that learned from the same dataset as the champion or from an older one."""
    required_confidence: float
    """Share of resamples in which such a challenger must have the lower log loss."""
    fresher_tolerance: float
    """How much worse in log loss a challenger may be that has learned from newer outcomes."""
    max_roc_auc_loss: float
    """How much ROC AUC any challenger may lose."""
    max_slice_harm: float
    """How much worse in log loss any slice may become, significantly."""


ACCEPTANCE_SETTINGS = [field.name for field in fields(AcceptanceThresholds)]
PROMOTION_SETTINGS = [field.name for field in fields(PromotionThresholds)]
"""The settings of these names hold the thresholds."""


def absolute_rules(report: Mapping[str, Any], thresholds: AcceptanceThresholds) -> list[dict[str, Any]]:
    """The rules on a metrics report that any model must keep, champion or no champion."""
    metrics = report["model_metrics"]
    gain = _difference((report["baselines"]["base_rate"] or {}).get("log_loss"), metrics["log_loss"])
    return [
        rule("ROC AUC at least", metrics["roc_auc"], thresholds.min_roc_auc, at_least=True),
        rule("calibration error at most", metrics["calibration_error"], thresholds.max_calibration_error, at_least=False),
        rule("log loss below the base rate's by at least", gain, thresholds.min_log_loss_gain, at_least=True),
    ]


def rule(text: str, value: float | None, limit: float, *, at_least: bool) -> dict[str, Any]:
    """A rule: `rule` (text), `value` (None where it could not be computed; that fails the rule), `limit`, `passed`."""
    passed = value is not None and (value >= limit if at_least else value <= limit)
    return {"rule": text, "value": value, "limit": limit, "passed": passed}


def summarize(rules: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether every rule is kept, and the reason in a sentence. A rule may bring its own words for a failure (`otherwise`)."""
    failed = [rule.get("otherwise") or _sentence(rule) for rule in rules if not rule["passed"]]
    if not failed:
        return True, f"all {len(rules)} rules passed on {report['model_metrics']['rows']} holdout bids"
    note = f" ({report['note']})" if report.get("note") else ""
    return False, "; ".join(failed) + note


def _sentence(rule: Mapping[str, Any]) -> str:
    value = "not computable" if rule["value"] is None else f"{rule['value']:.4f}"
    where = f" ({rule['slice']})" if "slice" in rule else ""
    return f"{rule['rule']} {rule['limit']:g}, but it is {value}{where}"


def _difference(base: float | None, value: float | None) -> float | None:
    return None if base is None or value is None else base - value
