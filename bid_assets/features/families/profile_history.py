"""Feature family: the profile's record at the moment of a bid: counts and rates over rolling windows, point in time.

For a bid submitted at t, over the same profile's bids submitted in [t - w, t), w = 7, 30, 90 days: how many, how many of
them had an outcome known strictly before t, how many of these were successes, and their rate. Over the 90 days also: days
since the latest success known before t, and bids still open at t. Of several outcomes of a bid the latest one known before
t counts (of two with equal times, the one with the larger id). Rows of equal time do not see each other.
Failures are a feature beside successes, though known less successes: neither trees nor linear models learn differences well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.common.windows import MICROSECONDS_PER_DAY
from bid_assets.features.family import Feature, FeatureFamily, Role
from bid_assets.features.history_definition import HistoryArrays, HistoryDefinition
from bid_assets.features.interval_counts import FOREVER, NEVER, GroupedTimeline

WINDOW_DAYS = (7, 30, 90)
LOOKBACK_DAYS = WINDOW_DAYS[-1] + 1
_WINDOWS = np.array(WINDOW_DAYS)[:, np.newaxis] * MICROSECONDS_PER_DAY


def _counts(name: str, meaning: str, role: Role | None = None) -> list[Feature]:
    """A count over each window; that over the widest one has the role."""
    return [Feature(name.format(w), pa.int32(), meaning.format(w), role if w == WINDOW_DAYS[-1] else None) for w in WINDOW_DAYS]


FEATURES = (
    *_counts("bids_{}d", "the profile's bids of the {} days before", Role.PAST_BIDS),
    *_counts("known_outcomes_{}d", "those of them whose outcome was known, {} days", Role.KNOWN_OUTCOMES),
    *_counts("successes_{}d", "successes among the known, {} days", Role.SUCCESSES),
    *_counts("failures_{}d", "failures among the known, {} days"),
    *(
        Feature(f"success_rate_{w}d", pa.float64(), f"successes / known, {w} days; missing where none is known")
        for w in WINDOW_DAYS
    ),
    Feature("days_since_last_success", pa.float64(), "days since the latest known success of the 90 days; missing where none"),
    Feature("open_bids", pa.int32(), "bids of the 90 days whose outcome was not known yet"),
)


def history_features(history: HistoryArrays, rows: GroupedTimeline) -> list[npt.NDArray[Any]]:
    """The columns of `FEATURES` for these rows, without a loop.

    A bid counts from its submission until it is too old; an outcome of it, from when it is known until the bid's next
    outcome is, and as long as the bid counts: these are the intervals that hold a row or not.
    """
    owner, submitted, bid, known, success = history
    old = submitted + _WINDOWS  # for each window
    replaced = np.full(len(bid), FOREVER)
    corrected = bid[1:] == bid[:-1]
    replaced[:-1][corrected] = known[1:][corrected]
    outcome_owner, since, until = owner[bid], np.maximum(known, submitted[bid]), np.minimum(replaced, old[:, bid])
    until_as_success = np.where(success, until, NEVER)
    bids = rows.count_covering(owner, submitted, old)
    outcomes, successes = rows.count_covering(outcome_owner, since, np.array([until, until_as_success]))
    rates = np.where(outcomes, successes / np.maximum(outcomes, 1), np.nan)
    latest = rows.max_covering(outcome_owner, since, until_as_success[-1], known, missing=NEVER)
    days_since = np.where(latest == NEVER, np.nan, (rows.time - latest) / MICROSECONDS_PER_DAY)
    return [*bids, *outcomes, *successes, *(outcomes - successes), *rates, days_since, bids[-1] - outcomes[-1]]


FAMILY = FeatureFamily(
    name="profile_historical_features",
    description="The profile's record as it was known when the bid was made: bids, outcomes, success rates "
    "over 7, 30, 90 days.",
    key="bid_id",
    reads=("raw_bids", "raw_bid_outcomes"),
    features=FEATURES,
    definition=HistoryDefinition(history_features, "profile"),
    lookback_days=LOOKBACK_DAYS,
    is_profile_history=True,
    code_version="2",
)
