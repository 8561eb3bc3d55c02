"""What a profile's own past says at the moment of a bid: exact, point in time, without a loop over bids.

For a bid submitted at t, over the same profile's bids submitted in [t - w, t), w = 7, 30, 90 days: how many, how many of
them had an outcome known strictly before t, how many of these were successes, and their rate. Over the 90 days also: days
since the latest success known before t, and bids still open at t. Of several outcomes of a bid the latest one known before
t counts (of two with equal times, the one with the larger id). Rows of equal time do not see each other.
Failures are told beside successes, though known less successes: neither trees nor lines see well what is a difference.
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
from bid_assets.features.family import Encoder, Feature, FeatureFamily, RawTables, within
from bid_assets.features.inputs import OneBid, Record
from bid_assets.features.interval_counts import MICROSECONDS_PER_DAY, NEVER, Integers, Timelines, microseconds, order_of

DAYS = (7, 30, 90)
_REACHES = tuple(w * MICROSECONDS_PER_DAY for w in DAYS)

FEATURES = (
    *(Feature(f"bids_{w}d", pa.int32(), f"the profile's bids of the {w} days before") for w in DAYS),
    *(Feature(f"known_outcomes_{w}d", pa.int32(), f"those of them whose outcome was known, {w} days") for w in DAYS),
    *(Feature(f"successes_{w}d", pa.int32(), f"successes among the known, {w} days") for w in DAYS),
    *(Feature(f"failures_{w}d", pa.int32(), f"failures among the known, {w} days") for w in DAYS),
    *(Feature(f"success_rate_{w}d", pa.float64(), f"successes / known, {w} days; missing where none is known") for w in DAYS),
    Feature("days_since_last_success", pa.float64(), "days since the latest known success of the 90 days; missing where none"),
    Feature("open_bids", pa.int32(), "bids of the 90 days whose outcome was not known yet"),
)


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; `tables` reach back `FAMILY.lookback_days` before it."""
    bids = tables["raw_bids"].select(["id", "profile_id", "submitted_at"])
    asked, columns = records(bids, bids["profile_id"].combine_chunks(), tables["raw_bid_outcomes"], span)
    return FAMILY.table(asked["id"], asked["submitted_at"], columns)


def records(bids: pa.Table, group: pa.Array, outcomes: pa.Table, span: TimeRange) -> tuple[pa.Table, Mapping[str, pa.Array]]:
    """The rows of `bids` submitted in `span`, and for them the columns of `FEATURES`, over the bids with the same `group`."""
    code, submitted = _codes(group), microseconds(bids["submitted_at"])
    order = order_of(code, submitted)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    asked = within(bids["submitted_at"], span)
    record = _record(code[order], submitted[order], _outcomes(outcomes, bids["id"], place))
    return bids.filter(pa.array(asked)), _columns({name: numbers[place[asked]] for name, numbers in record.items()})


class Outcomes(NamedTuple):
    """Outcomes in the order of their bids, and for each bid in the order in which they became known."""

    bid: Integers
    """Place of the bid among all bids in order of (profile, time)."""
    known: Integers
    """When the outcome became known."""
    success: npt.NDArray[np.bool_]


def _outcomes(outcomes: pa.Table, bid_ids: pa.ChunkedArray, place: Integers) -> Outcomes:
    """The outcomes of these bids; those of others, made before the look-back, are left out."""
    row = pc.index_in(outcomes["bid_id"], value_set=bid_ids.combine_chunks())
    outcomes = outcomes.select(["id", "is_success", "outcome_timestamp"])
    if row.null_count:
        outcomes = outcomes.filter(pc.is_valid(row))
    bid, known = place[row.drop_null().to_numpy()], microseconds(outcomes["outcome_timestamp"])
    order = order_of(bid, known, outcomes["id"])
    return Outcomes(bid[order], known[order], outcomes["is_success"].to_numpy()[order])


def _record(profile: Integers, submitted: Integers, outcomes: Outcomes) -> dict[str, Integers]:
    """The counts of every bid by name, and `since_success` (microseconds; -1: none), without a loop.

    Bids come in order of (profile, time). A bid counts for the later bids of its profile until it is too old; an outcome of
    it, from when it is known until the bid's next outcome is: each is a stretch of the profile's timeline.
    """
    lines = Timelines(profile, submitted)
    bid, known, success = outcomes
    later = lines.after_each()
    start = np.maximum(lines.after(profile[bid], known), later[bid])
    other = bid[1:] != bid[:-1]
    first, last = np.append(True, other)[: len(bid)], np.append(other, True)[: len(bid)]
    replaced = np.where(last, lines.rows, np.append(start[1:], 0)[: len(bid)])
    record: dict[str, Integers] = {}
    for w in DAYS:
        old = lines.after(profile, submitted + w * MICROSECONDS_PER_DAY)
        end = np.minimum(replaced, old[bid])
        record[f"bids_{w}d"] = lines.covering(later, old)
        record[f"known_outcomes_{w}d"] = lines.covering(start[first], old[bid[first]])
        record[f"successes_{w}d"] = lines.covering(start[success], end[success])
    # w and end are now those of the widest window
    record["open_bids"] = record[f"bids_{w}d"] - record[f"known_outcomes_{w}d"]
    latest = lines.largest(start[success], end[success], known[success], missing=NEVER)
    record["since_success"] = np.where(latest == NEVER, -1, submitted - latest)
    return record


def _columns(record: Mapping[str, Integers]) -> dict[str, pa.Array]:
    """The declared features from `_record`."""
    columns = {name: pa.array(numbers) for name, numbers in record.items()}
    for w in DAYS:
        known = record[f"known_outcomes_{w}d"]
        columns[f"failures_{w}d"] = pa.array(known - record[f"successes_{w}d"])
        rate = record[f"successes_{w}d"] / np.maximum(known, 1)
        columns[f"success_rate_{w}d"] = pa.array(rate, mask=known == 0)
    since = columns.pop("since_success").to_numpy()
    columns["days_since_last_success"] = pa.array(since / MICROSECONDS_PER_DAY, mask=since < 0)
    return columns


def of_few(bids: Sequence[OneBid], encoder: Encoder | None) -> list[dict[str, int | float | None]]:
    """The same of a few bids, each with its profile's record."""
    return [of_record(bid.profile_record, bid.at) for bid in bids]


def of_record(record: Record, at: int) -> dict[str, int | float | None]:
    """The features of a bid made `at` by the definition: of each bid before it, the outcome in force then."""
    in_force: dict[int, tuple[int, str, bool]] = {}
    for bid, known, name, success in zip(record.bids, record.known, record.outcomes, record.successes, strict=True):
        if known < at and ((before := in_force.get(bid)) is None or (known, name) > before[:2]):
            in_force[bid] = (known, name, success)
    made, decided, won = ([0] * len(DAYS) for _ in range(3))
    newest = NEVER
    for bid, submitted in enumerate(record.submitted):
        if not 0 < (age := at - submitted) <= _REACHES[-1]:
            continue
        shortest = bisect_left(_REACHES, age)
        made[shortest] += 1
        if (told := in_force.get(bid)) is not None:
            decided[shortest] += 1
            if told[2]:
                won[shortest] += 1
                newest = max(newest, told[0])
    since = None if newest == NEVER else at - newest
    return _features(accumulate(made), accumulate(decided), accumulate(won), since)


def _features(
    made: Iterable[int], decided: Iterable[int], won: Iterable[int], since: int | None
) -> dict[str, int | float | None]:
    """The declared features from the counts within each of `DAYS`, and microseconds since the latest success."""
    found: dict[str, int | float | None] = {}
    for w, bids, known, successes in zip(DAYS, made, decided, won, strict=True):
        found[f"bids_{w}d"], found[f"known_outcomes_{w}d"], found[f"successes_{w}d"] = bids, known, successes
        found[f"failures_{w}d"] = known - successes
        found[f"success_rate_{w}d"] = successes / known if known else None
    found["open_bids"] = bids - known  # those of the widest window
    found["days_since_last_success"] = None if since is None else since / MICROSECONDS_PER_DAY
    return found


def _codes(names: pa.Array) -> Integers:
    return np.asarray(names.dictionary_encode().indices.to_numpy().astype(np.int64))


FAMILY = FeatureFamily(
    name="profile_historical_features",
    description="The profile's record as it was known when the bid was made: bids, outcomes, success rates over 7, 30, 90 days.",
    key="bid_id",
    reads=("raw_bids", "raw_bid_outcomes"),
    features=FEATURES,
    compute=compute,
    of_few=of_few,
    lookback_days=91,
    code_version="2",
)
