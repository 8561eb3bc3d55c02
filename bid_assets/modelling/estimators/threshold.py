"""Decision threshold: from which probability on a bid is predicted to succeed. Chosen on validation rows for a stated
objective. Pure."""

from __future__ import annotations

import numpy as np

from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.metrics import Labels, Probabilities
from bid_assets.modelling.parameters import TrainingParameters

_EPSILON = 1e-7


def choose_threshold(
    success: Labels, probability: Probabilities, parameters: TrainingParameters, rarer_is_success: bool
) -> float:
    """The threshold for `parameters.threshold_objective`.

    `f1`: best F1 of the rarer class. `precision`: as many bids as possible with at least `min_precision` of successes among
    them; where no threshold reaches it, the one that comes nearest. `value`: the largest sum of `gain_per_success` for each
    success among the predicted positives less `cost_per_bid` for each of them; above every probability where no bid pays.
    """
    if parameters.threshold_objective == "f1" or not len(success):
        return metrics.best_f1_threshold(success, probability, rarer_is_success)
    order = np.argsort(-probability, kind="stable")
    score, hits = probability[order], np.cumsum(success[order])
    last_of_equals = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    score, hits, positives = score[last_of_equals], hits[last_of_equals], last_of_equals + 1
    if parameters.threshold_objective == "precision":
        precision = hits / positives
        target = min(parameters.min_precision, float(precision.max()))
        cut = int(np.flatnonzero(precision >= target)[-1])
    else:
        value = parameters.gain_per_success * hits - parameters.cost_per_bid * positives
        cut = int(value.argmax())
        if value[cut] <= 0:
            return float(min(1.0, score[0] + _EPSILON))
    following = score[cut + 1] if cut + 1 < len(score) else max(0.0, score[cut] - _EPSILON)
    return float((score[cut] + following) / 2)
