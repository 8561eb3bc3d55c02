"""How a job's client has decided of late, as it was known at the moment of a bid: the record of `history`, of the client.

It counts the bids of every profile on every job of the same client, the bidder's own included. A client who takes months, or
nobody, is told from one who takes nearly all. All is missing where the bid's job, or the job's client, is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.windows import TimeRange
from bid_assets.features.families import profile_history
from bid_assets.features.family import Encoder, FeatureFamily, RawTables, bids_of, row_of, taken
from bid_assets.features.inputs import OneBid, Record

PREFIX = "client_"

FEATURES = tuple(
    replace(
        feature, name=PREFIX + feature.name, meaning=feature.meaning.replace("the profile's bids", "bids on the client's jobs")
    )
    for feature in profile_history.FEATURES
)

_NAMES = {feature.name: PREFIX + feature.name for feature in profile_history.FEATURES}


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; `tables` reach back `FAMILY.lookback_days` before it."""
    bids, jobs = tables["raw_bids"].select(["id", "job_id", "submitted_at"]), tables["raw_jobs"].combine_chunks()
    client = taken(jobs["client_id"], row_of(jobs, bids["job_id"], bids))
    told = pc.is_valid(client)
    found, columns = profile_history.records(bids.filter(told), client.filter(told), tables["raw_bid_outcomes"], span)
    asked = bids_of(bids, span)
    if found.num_rows < asked.num_rows:
        row = pc.index_in(asked["id"], value_set=found["id"]).combine_chunks()
        columns = {name: column.take(row) for name, column in columns.items()}
    return FAMILY.table(asked["id"], asked["submitted_at"], {_NAMES[name]: column for name, column in columns.items()})


def of_few(bids: Sequence[OneBid], encoder: Encoder | None) -> list[dict[str, int | float | None]]:
    """The same of a few bids, each with its client's record."""
    return [_of_one(bid.client_record, bid.at) for bid in bids]


def _of_one(record: Record | None, at: int) -> dict[str, int | float | None]:
    if record is None:
        return dict.fromkeys(_NAMES.values())
    return {_NAMES[name]: value for name, value in profile_history.of_record(record, at).items()}


FAMILY = FeatureFamily(
    name="client_historical_features",
    description="The client's record as it was known when the bid was made: bids on its jobs, outcomes, success rates.",
    key="bid_id",
    reads=("raw_bids", "raw_bid_outcomes", "raw_jobs"),
    features=FEATURES,
    compute=compute,
    of_few=of_few,
    lookback_days=profile_history.FAMILY.lookback_days,
    code_version=profile_history.FAMILY.code_version,
)
