"""Label maturity: the age at which a bid's outcome is known, estimated from reporting delays. Tables in, a rule out.

Undecided bids are part of what is seen: a bid that is ten days old and open says that its decision takes longer than ten days,
no more (right censoring). Success and failure are competing ends of a bid, and each has a delay of its own. So the chance of
having failed by an age is the Aalen-Johansen estimate of the cumulative incidence (Aalen, Johansen: An empirical transition
matrix for non-homogeneous Markov chains based on censored observations, Scand. J. Statist. 5, 1978), which without censoring is
the plain share. The decided bids alone would look quick, as young ones can only have been decided quickly.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TIME
from bid_assets.common.arrow import microseconds
from bid_assets.common.windows import MICROSECOND
from bid_assets.modelling.dataset.splits import LabelRules

DECIDED_SHARE = 0.9
"""A bid is mature at the age by which this share of the decisions of either class that come at all have come."""
MAX_SHARE_OF_SPAN = 0.25
"""Of the time that the bids span: no maturity is longer, for what is younger trains and evaluates nothing that is mature."""
DEFAULT_MATURITY = timedelta(days=14)
"""The maturity where too few outcomes are known to estimate it."""
MIN_OUTCOMES = 30
"""Of either kind; with fewer the maturity is not estimated."""
MIN_OBSERVED_SHARE = 0.1
"""Ages at which fewer of the bids can have been seen say nothing: a single late decision would weigh as much as hundreds."""

DAY = timedelta(days=1)

Ages = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.int8]
UNDECIDED = -1


def resolve_maturity(rules: LabelRules, bids: pa.Table, labels: pa.Table) -> LabelRules:
    """`rules` with a maturity: the one they have, or the one estimated from `bids` and those of their `labels` that are known.

    `labels` has one row for each decided bid: `bid_id`, `is_success`, `outcome_timestamp`. The estimated maturity is in whole
    days; it is never longer than `MAX_SHARE_OF_SPAN` of the time from the first bid to the newest outcome, nor than the age at
    which an undecided bid counts as failed. Where it was cut, or could not be estimated, `maturity_origin` says so.
    """
    if rules.maturity is not None:
        return rules
    labels = labels.filter(pc.is_in(labels["bid_id"], value_set=bids["id"]))
    if not labels.num_rows:
        return replace(rules, maturity=DEFAULT_MATURITY, maturity_origin="no outcome to estimate it from")
    submitted = microseconds(bids["submitted_at"].cast(TIME))
    index = pc.index_in(bids["id"], value_set=labels["bid_id"])
    kind = np.asarray(labels["is_success"].cast(pa.int8()).take(index).fill_null(UNDECIDED))
    decided = labels["outcome_timestamp"].cast(TIME).cast(pa.int64())
    now = pc.max(decided).as_py()
    submitted_by_now = submitted <= now
    end = np.asarray(decided.take(index).fill_null(now))
    age, kind, longest_seen = (end - submitted)[submitted_by_now], kind[submitted_by_now], (now - submitted)[submitted_by_now]
    longest = int(longest_seen.max())
    if min((kind == 0).sum(), (kind == 1).sum()) < MIN_OUTCOMES:
        estimate, origin = DEFAULT_MATURITY, f"fewer than {MIN_OUTCOMES} outcomes of either class to estimate it from"
    else:
        horizon = int(np.quantile(longest_seen, 1 - MIN_OBSERVED_SHARE))
        kind = np.where(age > horizon, UNDECIDED, kind).astype(np.int8)
        longest_wait = max(age_decided(np.minimum(age, horizon), kind, DECIDED_SHARE).values())
        estimate, origin = _whole_days(longest_wait * MICROSECOND), "estimated from the delays"
    limit = (longest * MAX_SHARE_OF_SPAN * MICROSECOND) // DAY * DAY
    if estimate > limit:
        origin += f"; {estimate.days} days, cut to {MAX_SHARE_OF_SPAN:.0%} of the time that the bids span"
    if rules.impute_failure_after is not None:
        limit = min(limit, rules.impute_failure_after)
    return replace(rules, maturity=min(estimate, limit), maturity_origin=origin)


def age_decided(age: Ages, kind: Kinds, share: float) -> dict[int, int]:
    """For each kind of decision: the least age by which `share` of those that come at all have come.

    `age`: of each bid, when it was decided or else when it was last seen undecided, any unit. `kind`: a number from 0 for a
    decided bid, `UNDECIDED` for another. Decisions that come later than any that was seen are not known of. A kind without a
    decision has no entry. Never less than the same quantile of the decided bids' ages, and equal to it where all are decided.
    """
    moments, place = np.unique(age, return_inverse=True)
    at_risk = len(age) - np.searchsorted(np.sort(age), moments)
    decided = np.bincount(place, kind != UNDECIDED, len(moments))
    undecided_before = np.concatenate([[1.0], np.cumprod(1 - decided / at_risk)[:-1]])
    ages = {}
    for number in np.unique(kind[kind != UNDECIDED]):
        by = np.cumsum(undecided_before * np.bincount(place, kind == number, len(moments)) / at_risk)
        ages[int(number)] = int(moments[np.searchsorted(by, share * by[-1] * (1 - 1e-9))])
    return ages


def _whole_days(age: timedelta) -> timedelta:
    return -(-age // DAY) * DAY
