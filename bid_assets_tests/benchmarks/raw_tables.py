"""Raw tables as the reader would give them, from an application's tables without blemish: for benchmarks that need no
database."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_BID_OUTCOMES, RAW_BIDS, RAW_JOBS, RAW_PROFILES, TEXTS
from bid_assets.app_db.json_columns import text_lists
from bid_assets.common.windows import Cadence


def raw_tables(bids: pa.Table, outcomes: pa.Table, jobs: pa.Table, profiles: pa.Table) -> dict[str, pa.Table]:
    """Raw tables by asset name, from tables with the contract's columns (lists as JSON text).

    Jobs and profiles come once for each weekly window whose bids name them.
    """
    bids = bids.select(RAW_BIDS.names).cast(RAW_BIDS)
    window = pa.array(
        [Cadence.WEEKLY.floor(moment) for moment in bids["submitted_at"].to_pylist()], RAW_JOBS.field("window").type
    )
    tables = {"raw_bids": bids, "raw_bid_outcomes": outcomes.select(RAW_BID_OUTCOMES.names).cast(RAW_BID_OUTCOMES)}
    for asset, key, rows, schema in (
        ("raw_jobs", "job_id", jobs, RAW_JOBS),
        ("raw_profiles", "profile_id", profiles, RAW_PROFILES),
    ):
        pairs = pa.table({"window": window, "id": bids[key]}).group_by(["window", "id"], use_threads=False).aggregate([])
        matches = rows.take(pc.index_in(pairs["id"], value_set=rows["id"]))
        columns = [
            pairs["window"] if f.name == "window" else text_lists(matches[f.name])[0] if f.type == TEXTS else matches[f.name]
            for f in schema
        ]
        tables[asset] = pa.table(columns, schema=schema)
    return tables
