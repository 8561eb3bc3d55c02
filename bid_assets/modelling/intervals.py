"""How sure a figure is: 95 % intervals by a bootstrap over profiles. Pure numpy; the figures themselves are in `metrics`.

The bids of one profile are not independent, so whole profiles are drawn with replacement (cluster bootstrap: Field, Welsh:
Bootstrapping clustered data, JRSS B 69, 2007). A drawn profile's bids get an integer weight, and every figure is computed from
weights on rows that were sorted once: ties are handled as in `metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bid_assets.modelling.metrics import CALIBRATION_BINS, Labels, Probabilities, log_losses

FIGURES = ("roc_auc", "average_precision", "average_precision_rarer", "log_loss", "brier", "calibration_error")
RESAMPLES = 1000
LEVEL = 0.95

Floats = npt.NDArray[np.float64]
Interval = list[float]
"""Lower and upper end."""

_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class Draws:
    """Resamples of the profiles behind some rows: how often each profile is drawn, and so how much each row weighs."""

    profile: npt.NDArray[np.int64]
    """Of each row, as a number from 0."""
    profiles: int
    resamples: int = RESAMPLES
    seed: int = 0

    @classmethod
    def of(cls, profile_ids: npt.NDArray[np.object_], resamples: int = RESAMPLES, seed: int = 0) -> Draws:
        """Draws for rows with these profiles."""
        names, number = np.unique(profile_ids.astype(str), return_inverse=True)
        return cls(number.astype(np.int64), len(names), resamples, seed)

    def counts(self) -> Iterator[Floats]:
        """How often each profile is drawn, in chunks of shape (some resamples, profiles); the same for equal seeds."""
        random = np.random.default_rng(self.seed)
        chunk = max(1, _CELLS_AT_ONCE // max(len(self.profile), self.profiles, 1))
        even = np.full(self.profiles, 1 / self.profiles)
        for begin in range(0, self.resamples, chunk):
            yield random.multinomial(self.profiles, even, size=min(chunk, self.resamples - begin)).astype(np.float64)

    def sums(self, values: Floats) -> Floats:
        """Values of rows, shape (rows, columns), added up within each profile: shape (profiles, columns)."""
        return np.stack([np.bincount(self.profile, column, self.profiles) for column in values.T], axis=1)


@dataclass(frozen=True, eq=False)
class Scored:
    """Rows with what happened and what was said of them; gives every figure for any weights of the profiles."""

    success: Labels
    probability: Probabilities
    draws: Draws

    def additive(self, counts: Floats) -> dict[str, Floats]:
        """Log loss, Brier score and calibration error for each row of `counts` (resamples, profiles)."""
        totals = counts @ self._sums
        rows, bins = totals[:, 0], (totals.shape[1] - 3) // 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "log_loss": totals[:, 1] / rows,
                "brier": totals[:, 2] / rows,
                "calibration_error": np.abs(totals[:, 3 : 3 + bins] - totals[:, 3 + bins :]).sum(axis=1) / rows,
            }

    def ranking(self, counts: Floats, rarer_is_success: bool) -> dict[str, Floats]:
        """ROC AUC and both average precisions for each row of `counts`; NaN where one class is missing."""
        order, starts = self._order
        weights = counts[:, self.draws.profile[order]]
        success = self.success[order]
        good, bad = (np.add.reduceat(weights * kind, starts, axis=1) for kind in (success, ~success))
        good_below, bad_below = np.cumsum(good, axis=1), np.cumsum(bad, axis=1)
        goods, bads = good_below[:, -1:], bad_below[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            of_success = _average_precision(good, goods - good_below + good, bads - bad_below + bad)
            found = {
                "roc_auc": (good * (bad_below - bad / 2)).sum(axis=1) / (goods * bads)[:, 0],
                "average_precision": of_success,
                "average_precision_rarer": of_success if rarer_is_success else _average_precision(bad, bad_below, good_below),
            }
        one_class = (goods * bads)[:, 0] == 0
        return {name: np.where(one_class, np.nan, values) for name, values in found.items()}

    @cached_property
    def _order(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows by ascending probability, and where each run of equal probabilities begins."""
        order = np.argsort(self.probability, kind="stable")
        ordered = self.probability[order]
        return order, np.flatnonzero(np.append(True, np.diff(ordered) > 0))

    @cached_property
    def _sums(self) -> Floats:
        """By profile: rows, log loss, squared error, then probability and successes in each calibration bin."""
        edges = np.unique(np.quantile(self.probability, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]))
        bins = np.eye(len(edges) + 1)[np.searchsorted(edges, self.probability, side="right")]
        columns = [
            np.ones(len(self.success)),
            log_losses(self.success, self.probability),
            np.square(self.probability - self.success),
            *(bins * self.probability[:, None]).T,
            *(bins * self.success[:, None]).T,
        ]
        return self.draws.sums(np.stack(columns, axis=1))


def intervals(
    success: Labels,
    probability: Probabilities,
    profile_ids: npt.NDArray[np.object_],
    rarer_is_success: bool,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """The 95 % interval of each of `FIGURES`; None where rows of at least two profiles, or both classes, are lacking.

    Percentiles of the resampled figures; for the calibration error, which resampling makes larger by as much as chance has
    made it too large already, the basic interval, which corrects both (Davison, Hinkley: Bootstrap Methods, 1997, 5.2).
    """
    draws = Draws.of(profile_ids, resamples, seed)
    if draws.profiles < 2:
        return dict.fromkeys(FIGURES)
    scored = Scored(success, probability, draws)
    parts = [{**scored.additive(counts), **scored.ranking(counts, rarer_is_success)} for counts in draws.counts()]
    found = {name: percentiles(np.concatenate([part[name] for part in parts])) for name in FIGURES}
    error, bounds = scored.additive(np.ones((1, draws.profiles)))["calibration_error"][0], found["calibration_error"]
    if bounds is not None:
        found["calibration_error"] = [max(0.0, 2 * float(error) - bound) for bound in reversed(bounds)]
    return found


def percentiles(values: Floats, level: float = LEVEL) -> Interval | None:
    """The middle `level` of the values that are there; None where fewer than half are."""
    there = values[np.isfinite(values)]
    if 2 * len(there) < len(values) or not len(there):
        return None
    low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def _average_precision(wanted: Floats, wanted_found: Floats, others_found: Floats) -> Floats:
    """Precision at each score, weighted by the wanted rows that have it; all of shape (resamples, scores)."""
    precision = np.divide(
        wanted_found, wanted_found + others_found, out=np.zeros_like(wanted), where=wanted_found + others_found > 0
    )
    return np.asarray((wanted * precision).sum(axis=1) / wanted.sum(axis=1), dtype=np.float64)
