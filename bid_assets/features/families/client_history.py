"""Feature family: the client's record at the moment of a bid: the features of `profile_history`, grouped by client.

All bids of every profile on every job of the client count, the bidder's own included. All features are missing where
the bid's job, or the job's client, is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.windows import TimeRange
from bid_assets.features.families import profile_history
from bid_assets.features.family import Encoder, FeatureFamily, RawTables, as_of_row_index, bids_in_span, take_or_null
from bid_assets.features.inputs import BidContext, BidHistory

PREFIX = "client_"

FEATURES = tuple(
    replace(
        feature, name=PREFIX + feature.name, meaning=feature.meaning.replace("the profile's bids", "bids on the client's jobs")
    )
    for feature in profile_history.FEATURES
)

_NAMES = {feature.name: PREFIX + feature.name for feature in profile_history.FEATURES}


def compute_table(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`; `tables` reach back `FAMILY.lookback_days` before it."""
    bids, jobs = tables["raw_bids"].select(["id", "job_id", "submitted_at"]), tables["raw_jobs"].combine_chunks()
    client = take_or_null(jobs["client_id"], as_of_row_index(jobs, bids["job_id"], bids))
    known = pc.is_valid(client)
    of_clients, columns = profile_history.history_columns(
        bids.filter(known), client.filter(known), tables["raw_bid_outcomes"], span
    )
    bids = bids_in_span(bids, span)
    if of_clients.num_rows < bids.num_rows:
        row = pc.index_in(bids["id"], value_set=of_clients["id"]).combine_chunks()
        columns = {name: column.take(row) for name, column in columns.items()}
    return FAMILY.table(bids["id"], bids["submitted_at"], {_NAMES[name]: column for name, column in columns.items()})


def compute_rows(bids: Sequence[BidContext], encoder: Encoder | None) -> list[dict[str, int | float | None]]:
    """The features of each bid, in order, from its client's history."""
    return [_features_of(bid.client_history, bid.at) for bid in bids]


def _features_of(history: BidHistory | None, at: int) -> dict[str, int | float | None]:
    if history is None:
        return dict.fromkeys(_NAMES.values())
    return {_NAMES[name]: value for name, value in profile_history.history_features(history, at).items()}


FAMILY = FeatureFamily(
    name="client_historical_features",
    description="The client's record as it was known when the bid was made: bids on its jobs, outcomes, success rates.",
    key="bid_id",
    reads=("raw_bids", "raw_bid_outcomes", "raw_jobs"),
    features=FEATURES,
    compute_table=compute_table,
    compute_rows=compute_rows,
    lookback_days=profile_history.FAMILY.lookback_days,
    code_version=profile_history.FAMILY.code_version,
)
