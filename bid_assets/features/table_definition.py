"""Features by a function of whole raw tables: for a family that neither a row nor a history can say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_BID_OUTCOMES, RAW_BIDS, RAW_JOBS, RAW_PROFILES
from bid_assets.common.windows import MICROSECOND, TimeRange, datetime_from_microseconds
from bid_assets.features.family import Encoder, FeatureFamily, RawTables
from bid_assets.features.inputs import BidContext, BidHistory, FeatureRow


@dataclass(frozen=True)
class TableDefinition:
    """`function(tables, span, encoder)` gives the family's table: see `FeatureFamily.compute_table`.

    The prediction service calls it too, with tables of what its bids can see. Of past bids of the profile and of the client
    that is owner, time and outcomes: a function that reads more of them would not give the features that it gives in
    training. A prediction takes some milliseconds longer.
    """

    function: Callable[[RawTables, TimeRange, Encoder | None], pa.Table]

    def compute_table(self, family: FeatureFamily, tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
        """The family's table."""
        return self.function(tables, span, encoder)

    def compute_rows(self, family: FeatureFamily, bids: Sequence[BidContext], encoder: Encoder | None) -> list[FeatureRow]:
        """The features of each bid, in order."""
        times = [datetime_from_microseconds(bid.at) for bid in bids]
        span = TimeRange(min(times), max(times) + MICROSECOND)
        table = self.function(raw_tables_of(bids), span, encoder)
        ids = pa.array(map(str, range(len(bids))))
        rows = table.take(pc.index_in(ids, value_set=table[family.key])).select([each.name for each in family.features])
        return list(rows.to_pylist())


def raw_tables_of(bids: Sequence[BidContext]) -> RawTables:
    """Raw tables in which each bid sees what its context holds, and none of the other bids.

    The ids of a bid, of its profile, job and client are its number; every bid has copies of its histories for itself.
    """
    rows: dict[str, list[dict[str, Any]]] = {"raw_bids": [], "raw_bid_outcomes": [], "raw_profiles": [], "raw_jobs": []}
    for number, bid in enumerate(bids):
        own, at = str(number), bid.at
        rows["raw_bids"].append(
            {
                "id": own,
                "profile_id": own,
                "job_id": own,
                "amount": bid.amount,
                "generated_bid_text": bid.text,
                "bid_settings_snapshot": bid.settings,
                "external_signals_snapshot": bid.signals,
                "submitted_at": at,
            }
        )
        if bid.profile is not None:
            rows["raw_profiles"].append({**bid.profile, "id": own, "window": at})
        if bid.job is not None:
            client = None if bid.client_history is None else own
            rows["raw_jobs"].append({**bid.job, "id": own, "window": at, "client_id": client})
        _add_history(rows, bid.profile_history, f"{own} profile", profile_id=own, job_id="")
        if bid.client_history is not None:
            earlier_jobs = f"{own} client"
            rows["raw_jobs"].append({"id": earlier_jobs, "window": 0, "client_id": own})
            _add_history(rows, bid.client_history, earlier_jobs, profile_id="", job_id=earlier_jobs)
    schemas = (RAW_BIDS, RAW_BID_OUTCOMES, RAW_PROFILES, RAW_JOBS)
    return {name: pa.Table.from_pylist(each, schema) for (name, each), schema in zip(rows.items(), schemas, strict=True)}


def _add_history(rows: dict[str, list[dict[str, Any]]], history: BidHistory, name: str, **owner: str) -> None:
    ids = [f"{name} {number}" for number in range(len(history.submitted_at))]
    rows["raw_bids"] += [{"id": id_, "submitted_at": at, **owner} for id_, at in zip(ids, history.submitted_at, strict=True)]
    rows["raw_bid_outcomes"] += [
        {"id": id_, "bid_id": ids[bid], "is_success": is_success, "outcome_timestamp": known_at}
        for id_, bid, is_success, known_at in zip(
            history.outcome_ids, history.outcome_bid_index, history.is_success, history.known_at, strict=True
        )
    ]
