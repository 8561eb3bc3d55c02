"""Performance forecast: the metrics to expect on future bids, from the holdout corrected for reporting delay and
variation between periods.

**Outcomes still to come.** Of the holdout's bids, the slow ones are not decided yet, and failures are slow. So each decided bid
weighs the inverse of the chance that a bid that ends as it did is decided at its age. That chance is estimated from the decided
bids alone, by the product limit in reverse time (Lagakos, Barraj, De Gruttola: Nonparametric analysis of truncated survival
data, Biometrika 75, 1988). It knows nothing of decisions slower than any that the dataset can have seen.

**Variation between periods.** A holdout is one period of time, and the share of failures differs between periods by
more than chance: seasons, changes of the market. The log-odds of failure in the dataset's own periods tell how much.
Four of them say little, so the spread between them is not one number but has a posterior (half-Cauchy prior: Gelman:
Prior distributions for variance parameters in hierarchical models, Bayesian Analysis 1, 2006). Each resample draws a
shift of the log-odds and weighs the failures by it. What a model says of failures and of successes is taken to stay as
it is: ROC AUC does not change by it, log loss and average precision do.

NumPy, SciPy and Arrow. What the holdout itself shows, with the error of its sampling alone, is in `bootstrap`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.arrow import FloatArray, microseconds
from bid_assets.modelling.dataset.assemble import labels
from bid_assets.modelling.dataset.splits import Times
from bid_assets.modelling.evaluation.bootstrap import RESAMPLES, ClusterBootstrap, WeightedMetrics, percentiles
from bid_assets.modelling.evaluation.metrics import Labels, Probabilities

METRICS = ("roc_auc", "average_precision", "average_precision_rarer", "log_loss", "brier")
"""The calibration error is left out: resampling makes it larger by chance, and a shift of the market makes any of it
possible."""

PERIODS = 4
"""A dataset's mature bids are cut into so many periods of equal length: about as long as a holdout each."""
PRIOR_SCALE = 0.5
"""Scale of the prior, in log-odds: a share of failures of 8 % here and 13 % there surprises nobody."""
MIN_PROBABILITY = 0.05
"""No bid weighs more than the inverse of this."""
MIN_OBSERVED_SHARE = 0.1
"""Delays that fewer of the bids are old enough to have shown are left out: one decision would weigh as much as hundreds."""
MIN_BIDS = 10
"""A period with fewer is left out."""

_SD_GRID = np.linspace(0.0, 3.0, 301)


def forecast_performance(
    dataset: pa.Table, probability: Probabilities, rarer_is_success: bool, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any] | None:
    """The expected `METRICS` and `success_rate` will be on the bids to come: of each `expected` and a 95 % `interval`.
    JSON-able.

    `probability` is what the model says of the dataset's holdout. `between_period_sd`: the standard deviation of the log-odds
    of failure between periods (the posterior's median). None where the holdout has not both classes and two profiles.
    """
    holdout = np.asarray(pc.equal(dataset["split"], "holdout"))
    decided, profiles = labels(dataset), dataset["profile_id"].to_numpy()
    success = decided[holdout]
    bootstrap = ClusterBootstrap.from_profiles(profiles[holdout], resamples, seed)
    if bootstrap.profiles < 2 or success.all() or not success.any():
        return None
    submitted = microseconds(dataset["submitted_at"])
    weights = reporting_delay_weights(submitted, microseconds(dataset["outcome_timestamp"]), decided)
    mature = np.asarray(pc.not_equal(dataset["split"], "immature"))
    likely = between_period_sd_posterior(
        *period_log_odds(submitted[mature], decided[mature], weights[mature], profiles[mature])
    )
    weighted = WeightedMetrics(success, probability, bootstrap, weights[holdout])
    expected = weighted.compute(np.ones((1, bootstrap.profiles)), rarer_is_success)
    random = np.random.default_rng(seed)
    drawn = []
    for counts in bootstrap.counts():
        shift = np.sqrt(2) * random.choice(_SD_GRID, len(counts), p=likely) * random.standard_normal(len(counts))
        drawn.append(weighted.compute(counts, rarer_is_success, np.exp(shift)))
    forecast = {
        name: {"expected": float(expected[name][0]), "interval": percentiles(np.concatenate([part[name] for part in drawn]))}
        for name in (*METRICS, "success_rate")
    }
    return {**forecast, "between_period_sd": float(_SD_GRID[np.searchsorted(np.cumsum(likely), 0.5)])}


def reporting_delay_weights(submitted: Times, known: Times, success: Labels) -> FloatArray:
    """The inverse of the chance that a bid that ends like this one is decided by now, shape (rows,); at least 1.

    Times in microseconds; now is when the newest outcome became known. Successes and failures have delays of their own.
    """
    age, delay = known.max(initial=0) - submitted, known - submitted
    weights = np.ones(len(age))
    if not len(age):
        return weights
    horizon = np.quantile(age, 1 - MIN_OBSERVED_SHARE)
    for kind in (success, ~success):
        decided = kind & (delay <= horizon)
        if decided.any():
            moments, decided_by = _delays(delay[decided], age[decided])
            place = np.searchsorted(moments, age[kind], side="right") - 1
            weights[kind] = 1 / np.maximum(decided_by[np.maximum(place, 0)], MIN_PROBABILITY)
    return weights


def period_log_odds(
    submitted: Times, success: Labels, weights: FloatArray, profiles: npt.NDArray[np.object_]
) -> tuple[FloatArray, FloatArray]:
    """Log-odds of failure in each period, and the variance of each by sampling of profiles; `submitted` ascends."""
    if not len(submitted):
        return np.empty(0), np.empty(0)
    period = (submitted - submitted[0]) * PERIODS // (submitted[-1] - submitted[0] + 1)
    log_odds, variance = [], []
    for number in range(PERIODS):
        there = period == number
        if there.sum() < MIN_BIDS:
            continue
        weight, failed = weights[there], ~success[there]
        rate = float((weight[failed].sum() + 0.5) / (weight.sum() + 1))
        _, profile = np.unique(profiles[there].astype(str), return_inverse=True)
        residual = np.bincount(profile, weight * (failed - rate))
        of_rate = max(float(np.sum(residual**2)) / weight.sum() ** 2, rate * (1 - rate) / there.sum())
        log_odds.append(np.log(rate / (1 - rate)))
        variance.append(of_rate / (rate * (1 - rate)) ** 2)
    return np.array(log_odds), np.array(variance)


def between_period_sd_posterior(log_odds: FloatArray, variance: FloatArray) -> FloatArray:
    """How likely each of `_SD_GRID` is as the standard deviation of the true log-odds between periods; sums to 1.

    The mean of all periods is integrated out, with a flat prior.
    """
    prior = 1 / (1 + (_SD_GRID / PRIOR_SCALE) ** 2)
    if len(log_odds) < 2:
        return np.asarray(prior / prior.sum())
    total = variance[:, None] + _SD_GRID**2
    mean = (log_odds[:, None] / total).sum(axis=0) / (1 / total).sum(axis=0)
    fit = np.log(total) + (log_odds[:, None] - mean) ** 2 / total
    log_likelihood = -0.5 * (fit.sum(axis=0) + np.log((1 / total).sum(axis=0)))
    likely = prior * np.exp(log_likelihood - log_likelihood.max())
    return np.asarray(likely / likely.sum())


def _delays(delay: Times, age: Times) -> tuple[Times, FloatArray]:
    """Delays that were seen, ascending, and of each the chance that a decision has come by then.

    Each delay was seen only because it is no longer than its bid's age: so at each moment, those count that were decided by
    then and would have been seen had it taken so long.
    """
    moments, decided = np.unique(delay, return_counts=True)
    at_risk = np.searchsorted(np.sort(delay), moments, side="right") - np.searchsorted(np.sort(age), moments, side="left")
    earlier = np.cumprod((1 - decided / at_risk)[::-1])[::-1]
    return moments, np.append(earlier[1:], 1.0)
