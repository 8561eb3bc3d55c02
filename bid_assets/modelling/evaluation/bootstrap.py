"""Confidence intervals of metrics: 95 % by a cluster bootstrap over profiles. NumPy and SciPy; the metrics are in `metrics`.

The bids of one profile are not independent, so whole profiles are drawn with replacement (cluster bootstrap: Field, Welsh:
Bootstrapping clustered data, JRSS B 69, 2007). Every metric is computed from how often each profile is drawn and from
what its bids add up to: sums for log loss and the like; for ranking, its successes and failures at each probability,
ties handled as in `metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.evaluation.metrics import CALIBRATION_BINS, Labels, Probabilities, log_losses

METRICS = ("roc_auc", "average_precision", "average_precision_rarer", "log_loss", "brier", "calibration_error")
RESAMPLES = 1000
LEVEL = 0.95
Interval = list[float]
"""Lower and upper end."""

GROUPS = 20_000
"""Of more probabilities, neighbors count as one in the ranking metrics of resamples: an interval's ends move by less
than .0001."""
_CELLS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class ClusterBootstrap:
    """Resamples of the profiles behind some rows: how often each profile is drawn, and so how much each row weighs."""

    profile: npt.NDArray[np.int64]
    """Of each row, as a number from 0."""
    profiles: int
    resamples: int = RESAMPLES
    seed: int = 0

    @classmethod
    def from_profiles(cls, profile_ids: npt.NDArray[np.object_], resamples: int = RESAMPLES, seed: int = 0) -> ClusterBootstrap:
        """ClusterBootstrap for rows with these profiles."""
        names, number = np.unique(profile_ids.astype(str), return_inverse=True)
        return cls(number.astype(np.int64), len(names), resamples, seed)

    def counts(self) -> Iterator[FloatArray]:
        """How often each profile is drawn, in chunks of shape (some resamples, profiles); the same for equal seeds."""
        random = np.random.default_rng(self.seed)
        chunk = max(1, _CELLS_AT_ONCE // max(min(len(self.profile), GROUPS), self.profiles, 1))
        even = np.full(self.profiles, 1 / self.profiles)
        for begin in range(0, self.resamples, chunk):
            yield random.multinomial(self.profiles, even, size=min(chunk, self.resamples - begin)).astype(np.float64)

    def sums(self, values: FloatArray) -> FloatArray:
        """Values of rows, shape (rows, columns), added up within each profile: shape (profiles, columns)."""
        return np.stack([np.bincount(self.profile, column, self.profiles) for column in values.T], axis=1)


@dataclass(frozen=True, eq=False)
class WeightedMetrics:
    """Labels and predicted probabilities of rows; computes every metric for any weights of the profiles."""

    success: Labels
    probability: Probabilities
    bootstrap: ClusterBootstrap
    weights: FloatArray | float = 1.0
    """Of each row, beside that of its profile."""

    def compute(
        self, counts: FloatArray, rarer_is_success: bool, failures_weigh: FloatArray | float = 1.0
    ) -> dict[str, FloatArray]:
        """`METRICS` and the success rate for each row of `counts` (resamples, profiles); NaN where they cannot be computed.

        `failures_weigh`: how much failures weigh in each resample, shape (resamples,).
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                **self._additive_metrics(counts, failures_weigh),
                **self._ranking_metrics(counts, rarer_is_success, failures_weigh),
            }

    def _additive_metrics(self, counts: FloatArray, failures_weigh: FloatArray | float) -> dict[str, FloatArray]:
        of_success, of_failure = self._sums
        successes, failures = (counts @ of_success).T, (counts @ of_failure).T * failures_weigh
        rows, log_loss, squared_error, *residual = successes + failures
        return {
            "success_rate": successes[0] / rows,
            "log_loss": log_loss / rows,
            "brier": squared_error / rows,
            "calibration_error": np.abs(residual).sum(axis=0) / rows,
        }

    def _ranking_metrics(
        self, counts: FloatArray, rarer_is_success: bool, failures_weigh: FloatArray | float
    ) -> dict[str, FloatArray]:
        good, bad = (np.asarray(group.T @ counts.T) for group in self._groups)
        bad = bad * failures_weigh
        good_below, bad_below = np.cumsum(good, axis=0), np.cumsum(bad, axis=0)
        goods, bads = good_below[-1], bad_below[-1]
        of_success = _average_precision(good, goods - good_below + good, bads - bad_below + bad)
        values = {
            "roc_auc": (good * (bad_below - bad / 2)).sum(axis=0) / (goods * bads),
            "average_precision": of_success,
            "average_precision_rarer": of_success if rarer_is_success else _average_precision(bad, bad_below, good_below),
        }
        return {name: np.where(goods * bads == 0, np.nan, value) for name, value in values.items()}

    @cached_property
    def _groups(self) -> tuple[sp.csr_array, sp.csr_array]:
        """Of each profile the weight of its successes, and of its failures, at each probability, ascending."""
        distinct, group = np.unique(self.probability, return_inverse=True)
        groups = min(len(distinct), GROUPS)
        group = group * groups // max(len(distinct), 1)
        weights, shape = np.broadcast_to(self.weights, len(group)), (self.bootstrap.profiles, groups)
        return tuple(
            sp.csr_array((weights[kind], (self.bootstrap.profile[kind], group[kind])), shape=shape)
            for kind in (self.success, ~self.success)
        )

    @cached_property
    def _sums(self) -> tuple[FloatArray, FloatArray]:
        """By profile, of successes and of failures: rows, log loss, squared error, then in each calibration bin what is
        said above what happened."""
        edges = np.unique(np.quantile(self.probability, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]))
        bins = np.eye(len(edges) + 1)[np.searchsorted(edges, self.probability, side="right")]
        residual = self.probability - self.success
        columns = [
            np.ones(len(residual)),
            log_losses(self.success, self.probability),
            np.square(residual),
            *(bins.T * residual),
        ]
        weighted = np.stack(columns, axis=1) * np.reshape(self.weights, (-1, 1))
        return self.bootstrap.sums(weighted * self.success[:, None]), self.bootstrap.sums(weighted * ~self.success[:, None])


def intervals(
    success: Labels,
    probability: Probabilities,
    profile_ids: npt.NDArray[np.object_],
    rarer_is_success: bool,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """The 95 % interval of each of `METRICS`; None where rows of at least two profiles, or both classes, are lacking.

    Percentiles of the resampled metrics; for the calibration error, which resampling makes larger by as much as chance has
    made it too large already, the basic interval, which corrects both (Davison, Hinkley: Bootstrap Methods, 1997, 5.2).
    """
    bootstrap = ClusterBootstrap.from_profiles(profile_ids, resamples, seed)
    if bootstrap.profiles < 2:
        return dict.fromkeys(METRICS)
    weighted = WeightedMetrics(success, probability, bootstrap)
    parts = [weighted.compute(counts, rarer_is_success) for counts in bootstrap.counts()]
    values = {name: percentiles(np.concatenate([part[name] for part in parts])) for name in METRICS}
    once = weighted.compute(np.ones((1, bootstrap.profiles)), rarer_is_success)
    error, bounds = once["calibration_error"][0], values["calibration_error"]
    if bounds is not None:
        values["calibration_error"] = [max(0.0, 2 * float(error) - bound) for bound in reversed(bounds)]
    return values


def percentiles(values: FloatArray) -> Interval | None:
    """The middle `LEVEL` of the values that are there; None where fewer than half are."""
    there = values[np.isfinite(values)]
    if 2 * len(there) < len(values) or not len(there):
        return None
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def _average_precision(positives: FloatArray, true_positives: FloatArray, false_positives: FloatArray) -> FloatArray:
    """Precision at each score, weighted by the positives that have it; all of shape (scores, resamples)."""
    precision = np.divide(
        true_positives,
        true_positives + false_positives,
        out=np.zeros_like(positives),
        where=true_positives + false_positives > 0,
    )
    return np.asarray((positives * precision).sum(axis=0) / positives.sum(axis=0), dtype=np.float64)
