"""How a job's client has decided of late, as it was known at the moment of a bid: the record of `history`, of the client.

It counts the bids of every profile on every job of the same client, the bidder's own included. A client who takes months, or
nobody, is told from one who takes nearly all. All is missing where the bid's job, or the job's client, is not known.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.features import history
from bid_assets.features.base import Encoder, FeatureFamily, RawTables, bids_of, row_of, taken
from bid_assets.windows import TimeRange

PREFIX = "client_"

FEATURES = tuple(
    replace(
        feature, name=PREFIX + feature.name, meaning=feature.meaning.replace("the profile's bids", "bids on the client's jobs")
    )
    for feature in history.FEATURES
)


def compute(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; `tables` reach back `FAMILY.lookback_days` before it."""
    bids, jobs = tables["raw_bids"].select(["id", "job_id", "submitted_at"]), tables["raw_jobs"].combine_chunks()
    client = taken(jobs["client_id"], row_of(jobs, bids["job_id"], bids))
    told = pc.is_valid(client)
    found, columns = history.records(bids.filter(told), client.filter(told), tables["raw_bid_outcomes"], span)
    asked = bids_of(bids, span)
    if found.num_rows < asked.num_rows:
        row = pc.index_in(asked["id"], value_set=found["id"]).combine_chunks()
        columns = {name: column.take(row) for name, column in columns.items()}
    return FAMILY.table(asked["id"], asked["submitted_at"], {PREFIX + name: column for name, column in columns.items()})


FAMILY = FeatureFamily(
    name="client_historical_features",
    description="The client's record as it was known when the bid was made: bids on its jobs, outcomes, success rates.",
    key="bid_id",
    reads=("raw_bids", "raw_bid_outcomes", "raw_jobs"),
    features=FEATURES,
    compute=compute,
    lookback_days=history.FAMILY.lookback_days,
    code_version=history.FAMILY.code_version,
)
