"""What a profile's own past says at the moment of a bid: exact, point in time, in one sweep.

For a bid submitted at t, over the same profile's bids submitted in [t - w, t), w = 7, 30, 90 days: how many, how many of
them had an outcome known strictly before t, how many of these were successes, and their rate. Over the 90 days also: days
since the latest success known before t, and bids still open at t. Of several outcomes of a bid the latest one known before
t counts (of two with equal times, the one with the larger id). Rows of equal time do not see each other.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.features.base import Encoder, Feature, FeatureFamily, RawTables, bids_of
from bid_assets.windows import TimeRange

DAYS = (7, 30, 90)
MICROSECONDS_PER_DAY = 86_400_000_000

FEATURES = (
    *(Feature(f"bids_{w}d", pa.int32(), f"the profile's bids of the {w} days before") for w in DAYS),
    *(Feature(f"known_outcomes_{w}d", pa.int32(), f"those of them whose outcome was known, {w} days") for w in DAYS),
    *(Feature(f"successes_{w}d", pa.int32(), f"successes among the known, {w} days") for w in DAYS),
    *(Feature(f"success_rate_{w}d", pa.float64(), f"successes / known, {w} days; missing where none is known") for w in DAYS),
    Feature("days_since_last_success", pa.float64(), "days since the latest known success of the 90 days; missing where none"),
    Feature("open_bids", pa.int32(), "bids of the 90 days whose outcome was not known yet"),
)


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; `tables` reach back `FAMILY.lookback_days` before it."""
    from bid_assets.features.sweep import sweep

    bids = tables["raw_bids"].select(["id", "profile_id", "submitted_at"]).sort_by("submitted_at")
    submitted = _microseconds(bids["submitted_at"])
    profile = bids["profile_id"].combine_chunks().dictionary_encode()
    event_bid, event_time, event_success = _events(tables["raw_bid_outcomes"], bids["id"], submitted)
    counts, since = sweep(
        profile.indices.to_numpy(zero_copy_only=False).astype(np.int32),
        len(profile.dictionary),
        submitted,
        event_bid,
        event_time,
        event_success,
        np.array(DAYS, dtype=np.int64) * MICROSECONDS_PER_DAY,
    )
    asked = bids_of(bids, span)
    first = int(np.searchsorted(submitted, int(span.start.timestamp()) * 1_000_000)) if len(asked) else 0
    rows = slice(first, first + len(asked))
    return FAMILY.table(asked["id"], asked["submitted_at"], _columns(counts[rows], since[rows]))


def _microseconds(times: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(times.cast(pa.int64()).to_numpy())


def _events(outcomes: pa.Table, bid_ids: pa.ChunkedArray, submitted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The outcomes of these bids in the order in which they became known: row of the bid, time, success."""
    outcomes = outcomes.select(["id", "bid_id", "is_success", "outcome_timestamp"])
    outcomes = outcomes.sort_by([("outcome_timestamp", "ascending"), ("id", "ascending")])
    row = pc.index_in(outcomes["bid_id"], value_set=bid_ids.combine_chunks())
    known = pc.is_valid(row).to_numpy()
    bid = row.fill_null(0).to_numpy()[known].astype(np.int32)
    time = _microseconds(outcomes["outcome_timestamp"])[known]
    success = outcomes["is_success"].to_numpy()[known].astype(np.bool_)
    sane = time >= submitted[bid]  # an outcome before its bid breaks the contract; the reader sets it aside
    return bid[sane], time[sane], success[sane]


def _columns(counts: np.ndarray, since: np.ndarray) -> dict[str, pa.Array]:
    """The declared features from the sweep's counts (rows x (bids, known, successes) x windows)."""
    columns: dict[str, pa.Array] = {}
    for index, w in enumerate(DAYS):
        bids, known, successes = (counts[:, kind, index] for kind in range(3))
        rate = np.divide(successes, known, out=np.zeros(len(known)), where=known > 0)
        columns |= {
            f"bids_{w}d": pa.array(bids),
            f"known_outcomes_{w}d": pa.array(known),
            f"successes_{w}d": pa.array(successes),
            f"success_rate_{w}d": pa.array(rate, mask=known == 0),
        }
    columns["days_since_last_success"] = pa.array(since / MICROSECONDS_PER_DAY, mask=since < 0)
    columns["open_bids"] = pa.array(counts[:, 0, -1] - counts[:, 1, -1])
    return columns


FAMILY = FeatureFamily(
    name="profile_historical_features",
    description="The profile's record as it was known when the bid was made: bids, outcomes, success rates over 7, 30, 90 days.",
    key="bid_id",
    reads=("raw_bids", "raw_bid_outcomes"),
    features=FEATURES,
    compute=compute,
    lookback_days=91,
)
