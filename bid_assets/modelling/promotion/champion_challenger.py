"""Champion against challenger: both on the same holdout bids, and the rules by which the challenger is promoted. Pure.

The comparison is paired: each resample of the profiles gives both models the same bids, so what makes a bid hard for both
does not count. A difference is challenger minus champion.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.evaluation.bootstrap import LEVEL, RESAMPLES, ClusterBootstrap, WeightedMetrics, percentiles
from bid_assets.modelling.evaluation.metrics import Labels, Probabilities, log_losses
from bid_assets.modelling.evaluation.slices import Values, slice_size
from bid_assets.modelling.promotion.acceptance_rules import PromotionThresholds, rule

COMPARED = ("log_loss", "roc_auc", "calibration_error", "brier", "average_precision", "average_precision_rarer")
_MORE_IS_BETTER = ("roc_auc", "average_precision", "average_precision_rarer")


def compare(
    success: Labels,
    champion: Probabilities,
    challenger: Probabilities,
    profile_ids: Values,
    slices: Mapping[str, Values] | None = None,
    *,
    rarer_is_success: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Both models' metrics on the same rows, JSON-able: `rows`, `profiles`, `metrics`, `slices`.

    Each of `metrics` (`COMPARED`): `champion`, `challenger`, `difference`, its 95 % `interval`, and `better_in`, the share of
    resamples in which the challenger is better. Each slice: its size, the `difference` in log loss and its `standard_error`.
    What cannot be computed is None.
    """
    bootstrap = ClusterBootstrap.from_profiles(profile_ids, resamples, seed)
    old, new = WeightedMetrics(success, champion, bootstrap), WeightedMetrics(success, challenger, bootstrap)
    once = np.ones((1, bootstrap.profiles))

    def both(counts: FloatArray) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        return old.compute(counts, rarer_is_success), new.compute(counts, rarer_is_success)

    measured = [both(once)] if len(success) else []
    drawn = [both(counts) for counts in bootstrap.counts()] if bootstrap.profiles > 1 else []
    return {
        "rows": len(success),
        "profiles": bootstrap.profiles,
        "metrics": {name: _compared(name, measured, drawn) for name in COMPARED},
        "slices": _slices(success, champion, challenger, profile_ids, bootstrap, slices or {}),
    }


def promotion_rules(comparison: Mapping[str, Any], thresholds: PromotionThresholds, *, fresher: bool) -> list[dict[str, Any]]:
    """Every rule on a comparison, with its value, its limit and whether it is kept. A value that is None fails its rule.

    A slice harms if it is worse by more than the limit and the difference is significant at 5 % over all slices together
    (Bonferroni), slices too small left out.
    """
    loss, ranking = comparison["metrics"]["log_loss"], comparison["metrics"]["roc_auc"]
    if fresher:
        first = [
            rule(
                "log loss above the active model's, which learned from older outcomes, by at most",
                loss["difference"],
                thresholds.fresher_tolerance,
                at_least=False,
            )
        ]
    else:
        gain = None if loss["difference"] is None else -loss["difference"]
        first = [
            rule("log loss below the active model's by at least", gain, thresholds.required_improvement, at_least=True),
            rule(
                "share of resamples with a lower log loss than the active model at least",
                loss["better_in"],
                thresholds.required_confidence,
                at_least=True,
            ),
        ]
    lost = None if ranking["difference"] is None else -ranking["difference"]
    return [
        *first,
        rule("ROC AUC below the active model's by at most", lost, thresholds.max_roc_auc_loss, at_least=False),
        _slice_rule(comparison["slices"], thresholds.max_slice_harm),
    ]


def _compared(
    name: str,
    measured: list[tuple[dict[str, FloatArray], dict[str, FloatArray]]],
    drawn: list[tuple[dict[str, FloatArray], dict[str, FloatArray]]],
) -> dict[str, Any]:
    old, new = (float(measured[0][side][name][0]) if measured else np.nan for side in (0, 1))
    differences = np.concatenate([new[name] - old[name] for old, new in drawn]) if drawn else np.empty(0)
    there = differences[np.isfinite(differences)]
    better = there > 0 if name in _MORE_IS_BETTER else there < 0
    known = np.isfinite(new - old)
    return {
        "champion": old if np.isfinite(old) else None,
        "challenger": new if np.isfinite(new) else None,
        "difference": new - old if known else None,
        "interval": percentiles(differences) if known else None,
        "better_in": float((better + (there == 0) / 2).mean()) if known and len(there) else None,
    }


def _slices(
    success: Labels,
    champion: Probabilities,
    challenger: Probabilities,
    profile_ids: Values,
    bootstrap: ClusterBootstrap,
    slices: Mapping[str, Values],
) -> list[dict[str, Any]]:
    """The difference in log loss within each slice, with the standard error that the resamples give it."""
    chosen = [(name, str(value), values == value) for name, values in slices.items() for value in np.unique(values.astype(str))]
    if not chosen or bootstrap.profiles < 2:
        return []
    worse = log_losses(success, challenger) - log_losses(success, champion)
    inside = np.stack([mask for _, _, mask in chosen], axis=1).astype(np.float64)
    added, rows = bootstrap.sums(inside * worse[:, None]), bootstrap.sums(inside)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.concatenate([(counts @ added) / (counts @ rows) for counts in bootstrap.counts()])
    return [
        {
            "slice": name,
            "value": value,
            **slice_size(success[mask], profile_ids[mask]),
            "difference": float(worse[mask].mean()),
            "standard_error": _spread(drawn[:, number]),
        }
        for number, (name, value, mask) in enumerate(chosen)
    ]


def _spread(values: npt.NDArray[np.float64]) -> float | None:
    there = values[np.isfinite(values)]
    return float(there.std()) if 2 * len(there) >= len(values) else None


def _slice_rule(slices: list[dict[str, Any]], limit: float) -> dict[str, Any]:
    large = [part for part in slices if not part["too_small"] and part["standard_error"] is not None]
    doubt = NormalDist().inv_cdf(1 - (1 - LEVEL) / max(len(large), 1))
    certain = [part for part in large if part["difference"] > doubt * part["standard_error"]]
    worst = max(certain, key=lambda part: part["difference"], default=None)
    outcome = rule(
        "log loss of a slice above the active model's, significantly, by at most",
        0.0 if worst is None else worst["difference"],
        limit,
        at_least=False,
    )
    return outcome if worst is None else outcome | {"slice": f"{worst['slice']}: {worst['value']}"}
