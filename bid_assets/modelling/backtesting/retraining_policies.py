"""Counterfactual evaluation of retraining policies: the log loss of each on the same history. Pure.

A policy is a list of cutoffs. A model made at a cutoff is in force until the policy's next one; models that several
policies ask for are made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.app_db.contract import TIME
from bid_assets.common.arrow import microseconds
from bid_assets.common.windows import Cadence
from bid_assets.modelling.backtesting.walk_forward import first_from
from bid_assets.modelling.dataset.assemble import labels
from bid_assets.modelling.evaluation.metrics import Probabilities, log_losses

PERIODS = {"daily": timedelta(days=1), "weekly": timedelta(weeks=1), "monthly": timedelta(weeks=4)}
NAMES = ("never", *PERIODS, "every:K")


def policy_cutoffs(policy: str, start: datetime, end: datetime, known: npt.NDArray[np.int64]) -> list[datetime]:
    """The moments from `start` to before `end` at which a policy trains; the first is always `start`.

    `known`: when each outcome became known, microseconds, ascending. Policies: `never` again, `daily`, `weekly`, `monthly`
    (28 days), `every:K` outcomes. Raises `ValueError` for another word.
    """
    if policy == "never":
        return [start]
    if policy in PERIODS:
        count = -(-(end - start) // PERIODS[policy])
        return [start + n * PERIODS[policy] for n in range(count)]
    word, _, number = policy.partition(":")
    if word != "every" or not number.isdigit() or int(number) < 1:
        raise ValueError(f"policy {policy!r} is none of {', '.join(NAMES)}")
    epoch = np.datetime64(0, "us")
    first, last = (int((np.datetime64(moment.replace(tzinfo=None), "us") - epoch).astype(np.int64)) for moment in (start, end))
    later = known[(known >= first) & (known < last)][int(number) - 1 :: int(number)]
    return [start, *(start + timedelta(microseconds=int(moment) - first + 1) for moment in later)]


def evaluate_policy(
    evaluation_bids: pa.Table,
    cutoffs: Sequence[datetime],
    end: datetime,
    probabilities: Mapping[datetime, Probabilities],
    seconds: Mapping[datetime, float],
    cadence: Cadence,
) -> dict[str, Any]:
    """The log loss of a policy on the evaluation bids submitted from its first cutoff to `end`.

    `probabilities[c]` are those of all evaluation bids from c on; empty where no model could be made: then the one
    before stays. Keys: `trainings`, `training_seconds`, `bids`, `log_loss` (mean, nats), `by_window` (window, bids,
    mean log loss).
    """
    begin, stop = first_from(evaluation_bids, cutoffs[0]), first_from(evaluation_bids, end)
    probability, trained = np.full(stop - begin, np.nan), [moment for moment in cutoffs if len(probabilities[moment])]
    for moment in trained:
        at = first_from(evaluation_bids, moment)
        probability[at - begin :] = probabilities[moment][: stop - at]
    rows = evaluation_bids.slice(begin, stop - begin)
    scored = np.isfinite(probability)
    losses = log_losses(labels(rows), probability)
    windows = microseconds(rows["window"])
    return {
        "trainings": len(trained),
        "training_seconds": float(sum(seconds[moment] for moment in cutoffs)),
        "bids": int(scored.sum()),
        "log_loss": float(losses[scored].mean()) if scored.any() else None,
        "by_window": [
            {"window": _key(window, cadence), "bids": int(inside.sum()), "log_loss": float(losses[inside].mean())}
            for window in np.unique(windows)
            if (inside := (windows == window) & scored).any()
        ],
    }


def _key(window: int, cadence: Cadence) -> str:
    return cadence.key(pa.scalar(int(window), TIME).as_py())
