"""Requests for past bids as of their own time, and their features in the store."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.features.registry import families
from bid_assets.serving.bid_requests import BidRequest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets_tests.platforms import Platform


def all_rows(platform: Platform, asset: str) -> pa.Table:
    """Of all windows."""
    keys = platform.store.partitions(asset)
    return WindowedTable(platform.store, asset, keys, platform.store.heads(asset, keys)).read()


def stored_features(platform: Platform, bids: pa.Table) -> pa.Table:
    """Every feature of every bid, in the order of `bids`."""
    columns: dict[str, Any] = {}
    for family in families():
        rows = all_rows(platform, family.name)
        if family.key == "bid_id":
            index = pc.index_in(bids["id"], value_set=rows["bid_id"])
        else:
            starts = [platform.settings.cadence.floor(at) for at in bids["submitted_at"].to_pylist()]
            keys = [f"{start}{job}" for start, job in zip(starts, bids["job_id"].to_pylist(), strict=True)]
            there = [f"{start}{job}" for start, job in zip(rows["window"].to_pylist(), rows["job_id"].to_pylist(), strict=True)]
            index = pc.index_in(pa.array(keys), value_set=pa.array(there))
        columns |= {feature.name: rows[feature.name].combine_chunks().take(index) for feature in family.features}
    return pa.table(columns)


def replay_request(bid: dict[str, Any]) -> BidRequest:
    """The request for a row of `raw_bids`, as of its own time."""
    return BidRequest(
        profile_id=bid["profile_id"],
        job_id=bid["job_id"],
        bid_text=bid["generated_bid_text"],
        amount=bid["amount"],
        settings=bid["bid_settings_snapshot"],
        external_signals=bid["external_signals_snapshot"],
        at=bid["submitted_at"],
        bid_id=bid["id"],
    )


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """Every value, and every type."""
    for name in expected.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name
        assert found[name].type == expected[name].type, name
