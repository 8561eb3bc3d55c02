"""Feature family: the profile's record at the moment of a bid: counts and rates over rolling windows, point in time.

For a bid submitted at t, over the same profile's bids submitted in [t - w, t), w = 7, 30, 90 days: how many, how many of
them had an outcome known strictly before t, how many of these were successes, and their rate. Over the 90 days also: days
since the latest success known before t, and bids still open at t. Of several outcomes of a bid the latest one known before
t counts (of two with equal times, the one with the larger id). Rows of equal time do not see each other.
Failures are a feature beside successes, though known less successes: neither trees nor linear models learn differences well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.windows import TimeRange
from bid_assets.features.family import Encoder, Feature, FeatureFamily, RawTables, span_mask
from bid_assets.features.inputs import BidContext, BidHistory
from bid_assets.features.interval_counts import (
    MICROSECONDS_PER_DAY,
    NEVER,
    GroupedTimeline,
    Integers,
    argsort_by_group_time,
    microseconds,
)

WINDOW_DAYS = (7, 30, 90)
_WINDOWS = tuple(w * MICROSECONDS_PER_DAY for w in WINDOW_DAYS)

FEATURES = (
    *(Feature(f"bids_{w}d", pa.int32(), f"the profile's bids of the {w} days before") for w in WINDOW_DAYS),
    *(Feature(f"known_outcomes_{w}d", pa.int32(), f"those of them whose outcome was known, {w} days") for w in WINDOW_DAYS),
    *(Feature(f"successes_{w}d", pa.int32(), f"successes among the known, {w} days") for w in WINDOW_DAYS),
    *(Feature(f"failures_{w}d", pa.int32(), f"failures among the known, {w} days") for w in WINDOW_DAYS),
    *(
        Feature(f"success_rate_{w}d", pa.float64(), f"successes / known, {w} days; missing where none is known")
        for w in WINDOW_DAYS
    ),
    Feature("days_since_last_success", pa.float64(), "days since the latest known success of the 90 days; missing where none"),
    Feature("open_bids", pa.int32(), "bids of the 90 days whose outcome was not known yet"),
)


def compute_table(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; `tables` reach back `FAMILY.lookback_days` before it."""
    bids = tables["raw_bids"].select(["id", "profile_id", "submitted_at"])
    bids, columns = history_columns(bids, bids["profile_id"].combine_chunks(), tables["raw_bid_outcomes"], span)
    return FAMILY.table(bids["id"], bids["submitted_at"], columns)


def history_columns(
    bids: pa.Table, group: pa.Array, outcomes: pa.Table, span: TimeRange
) -> tuple[pa.Table, Mapping[str, pa.Array]]:
    """The rows of `bids` submitted in `span`, and for them the columns of `FEATURES`, over the bids with the same `group`."""
    code, submitted = _codes(group), microseconds(bids["submitted_at"])
    order = argsort_by_group_time(code, submitted)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    inside = span_mask(bids["submitted_at"], span)
    counts = _counts(code[order], submitted[order], _outcomes(outcomes, bids["id"], place))
    return bids.filter(pa.array(inside)), _columns({name: numbers[place[inside]] for name, numbers in counts.items()})


class OutcomeColumns(NamedTuple):
    """Outcomes in the order of their bids, and for each bid in the order in which they became known."""

    bid: Integers
    """Place of the bid among all bids in order of (profile, time)."""
    known: Integers
    """When the outcome became known."""
    success: npt.NDArray[np.bool_]


def _outcomes(outcomes: pa.Table, bid_ids: pa.ChunkedArray, place: Integers) -> OutcomeColumns:
    """The outcomes of these bids; those of others, made before the look-back, are left out."""
    row = pc.index_in(outcomes["bid_id"], value_set=bid_ids.combine_chunks())
    outcomes = outcomes.select(["id", "is_success", "outcome_timestamp"])
    if row.null_count:
        outcomes = outcomes.filter(pc.is_valid(row))
    bid, known = place[row.drop_null().to_numpy()], microseconds(outcomes["outcome_timestamp"])
    order = argsort_by_group_time(bid, known, outcomes["id"])
    return OutcomeColumns(bid[order], known[order], outcomes["is_success"].to_numpy()[order])


def _counts(profile: Integers, submitted: Integers, outcomes: OutcomeColumns) -> dict[str, Integers]:
    """The counts of every bid by name, and `since_success` (microseconds; -1: none), without a loop.

    Bids come in order of (profile, time). A bid counts for the later bids of its profile until it is too old; an outcome of
    it, from when it is known until the bid's next outcome is: each is an interval of the profile's timeline.
    """
    timeline = GroupedTimeline(profile, submitted)
    bid, known, success = outcomes
    later = timeline.first_after_each_row()
    start = np.maximum(timeline.first_after(profile[bid], known), later[bid])
    other = bid[1:] != bid[:-1]
    first, last = np.append(True, other)[: len(bid)], np.append(other, True)[: len(bid)]
    replaced = np.where(last, timeline.rows, np.append(start[1:], 0)[: len(bid)])
    counts: dict[str, Integers] = {}
    for w in WINDOW_DAYS:
        old = timeline.first_after(profile, submitted + w * MICROSECONDS_PER_DAY)
        end = np.minimum(replaced, old[bid])
        counts[f"bids_{w}d"] = timeline.count_covering(later, old)
        counts[f"known_outcomes_{w}d"] = timeline.count_covering(start[first], old[bid[first]])
        counts[f"successes_{w}d"] = timeline.count_covering(start[success], end[success])
    # w and end are now those of the widest window
    counts["open_bids"] = counts[f"bids_{w}d"] - counts[f"known_outcomes_{w}d"]
    latest = timeline.max_covering(start[success], end[success], known[success], missing=NEVER)
    counts["since_success"] = np.where(latest == NEVER, -1, submitted - latest)
    return counts


def _columns(counts: Mapping[str, Integers]) -> dict[str, pa.Array]:
    """The declared features from `_counts`."""
    columns = {name: pa.array(numbers) for name, numbers in counts.items()}
    for w in WINDOW_DAYS:
        known = counts[f"known_outcomes_{w}d"]
        columns[f"failures_{w}d"] = pa.array(known - counts[f"successes_{w}d"])
        rate = counts[f"successes_{w}d"] / np.maximum(known, 1)
        columns[f"success_rate_{w}d"] = pa.array(rate, mask=known == 0)
    since = columns.pop("since_success").to_numpy()
    columns["days_since_last_success"] = pa.array(since / MICROSECONDS_PER_DAY, mask=since < 0)
    return columns


def compute_rows(bids: Sequence[BidContext], encoder: Encoder | None) -> list[dict[str, int | float | None]]:
    """The features of each bid, in order, from its profile's history."""
    return [history_features(bid.profile_history, bid.at) for bid in bids]


def history_features(history: BidHistory, at: int) -> dict[str, int | float | None]:
    """The features of a bid submitted `at`, by their definition: of each bid before it, the outcome in force at that time."""
    in_force: dict[int, tuple[int, str, bool]] = {}
    for bid, known, name, success in zip(
        history.outcome_bid_index, history.known_at, history.outcome_ids, history.is_success, strict=True
    ):
        if known < at and ((before := in_force.get(bid)) is None or (known, name) > before[:2]):
            in_force[bid] = (known, name, success)
    bids, known_outcomes, successes = ([0] * len(WINDOW_DAYS) for _ in range(3))
    last_success = NEVER
    for bid, submitted in enumerate(history.submitted_at):
        if not 0 < (age := at - submitted) <= _WINDOWS[-1]:
            continue
        shortest = bisect_left(_WINDOWS, age)
        bids[shortest] += 1
        if (outcome := in_force.get(bid)) is not None:
            known_outcomes[shortest] += 1
            if outcome[2]:
                successes[shortest] += 1
                last_success = max(last_success, outcome[0])
    since = None if last_success == NEVER else at - last_success
    return _features(accumulate(bids), accumulate(known_outcomes), accumulate(successes), since)


def _features(
    bids: Iterable[int], known: Iterable[int], successes: Iterable[int], since: int | None
) -> dict[str, int | float | None]:
    """The declared features from the counts span_mask each of `WINDOW_DAYS`, and microseconds since the latest success."""
    features: dict[str, int | float | None] = {}
    for w, n_bids, n_known, n_successes in zip(WINDOW_DAYS, bids, known, successes, strict=True):
        features[f"bids_{w}d"], features[f"known_outcomes_{w}d"], features[f"successes_{w}d"] = n_bids, n_known, n_successes
        features[f"failures_{w}d"] = n_known - n_successes
        features[f"success_rate_{w}d"] = n_successes / n_known if n_known else None
    features["open_bids"] = n_bids - n_known  # those of the widest window
    features["days_since_last_success"] = None if since is None else since / MICROSECONDS_PER_DAY
    return features


def _codes(names: pa.Array) -> Integers:
    return np.asarray(names.dictionary_encode().indices.to_numpy().astype(np.int64))


FAMILY = FeatureFamily(
    name="profile_historical_features",
    description="The profile's record as it was known when the bid was made: bids, outcomes, success rates "
    "over 7, 30, 90 days.",
    key="bid_id",
    reads=("raw_bids", "raw_bid_outcomes"),
    features=FEATURES,
    compute_table=compute_table,
    compute_rows=compute_rows,
    lookback_days=91,
    code_version="2",
)
