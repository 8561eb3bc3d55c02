"""Online equals offline: past bids, asked about again at their own time, have the features that the store has, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.app_db.embedded import EmbeddedServer
from bid_assets.features.families import families
from bid_assets.serving.online import OnlineFeatures
from bid_assets.serving.requests import BidToBe, JobText
from bid_assets.versions.tables import WindowedTable
from bid_assets_tests.platforms import Platform, small_platform


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, static_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with small_platform(postgres, tmp_path_factory.mktemp("online"), static_encoder) as made:
        yield made


@pytest.fixture(scope="module")
def online(platform: Platform) -> Iterator[OnlineFeatures]:
    made = OnlineFeatures(platform.settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def bids(platform: Platform) -> pa.Table:
    return _all(platform, "raw_bids").sort_by("id")


@pytest.fixture(scope="module")
def stored(platform: Platform, bids: pa.Table) -> pa.Table:
    """Every feature of every bid, in the order of `bids`."""
    columns: dict[str, Any] = {}
    for family in families():
        rows = _all(platform, family.name)
        if family.key == "bid_id":
            index = pc.index_in(bids["id"], value_set=rows["bid_id"])
        else:
            starts = [platform.settings.cadence.floor(at) for at in bids["submitted_at"].to_pylist()]
            keys = [f"{start}{job}" for start, job in zip(starts, bids["job_id"].to_pylist(), strict=True)]
            there = [f"{start}{job}" for start, job in zip(rows["window"].to_pylist(), rows["job_id"].to_pylist(), strict=True)]
            index = pc.index_in(pa.array(keys), value_set=pa.array(there))
        columns |= {feature.name: rows[feature.name].combine_chunks().take(index) for feature in family.features}
    return pa.table(columns)


def _all(platform: Platform, asset: str) -> pa.Table:
    keys = platform.store.partitions(asset)
    return WindowedTable(platform.store, asset, keys, platform.store.heads(asset, keys)).read()


def replayed(bid: dict[str, Any]) -> BidToBe:
    return BidToBe(
        profile_id=bid["profile_id"],
        job_id=bid["job_id"],
        bid_text=bid["generated_bid_text"],
        amount=bid["amount"],
        settings=bid["bid_settings_snapshot"],
        at=bid["submitted_at"],
        bid_id=bid["id"],
    )


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    for name in expected.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name
        assert found[name].type == expected[name].type, name


def test_every_past_bid_has_the_features_of_the_store(online: OnlineFeatures, bids: pa.Table, stored: pa.Table) -> None:
    rows = bids.slice(0, 400)
    found = online.features([replayed(bid) for bid in rows.to_pylist()])
    assert_same(found.table, stored.slice(0, 400))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_law_online_equals_offline_for_any_bids_asked_about_together(
    online: OnlineFeatures, bids: pa.Table, stored: pa.Table, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, bids.num_rows - 1), min_size=1, max_size=8))
    index = pa.array(chosen)
    found = online.features([replayed(bid) for bid in bids.take(index).to_pylist()])
    assert_same(found.table, stored.take(index))


def test_bids_asked_about_together_do_not_see_each_other(online: OnlineFeatures, bids: pa.Table) -> None:
    bid = replayed(bids.to_pylist()[-1])
    assert bid.at is not None
    later = BidToBe(bid.profile_id, bid.job_id, at=bid.at + timedelta(days=1))
    alone = [online.features([one]).table for one in (bid, later)]
    assert online.features([bid, later]).table.equals(pa.concat_tables(alone).combine_chunks())


def test_what_is_missing_is_named_and_null(online: OnlineFeatures) -> None:
    found = online.features([BidToBe("nobody", "nothing")])
    assert found.missing == [["profile unknown", "job unknown", "no history", "no bid text", "no amount"]]
    row = found.table.to_pylist()[0]
    assert row["profile_type"] is None
    assert row["bid_text_embedding"] is None
    assert row["bids_90d"] == 0
    assert found.newest_outcome == [None]


def test_a_job_that_is_only_text_counts_like_one_of_the_database(
    online: OnlineFeatures, platform: Platform, bids: pa.Table
) -> None:
    bid = replayed(bids.to_pylist()[7])
    jobs = {job["id"]: job for job in _all(platform, "raw_jobs").to_pylist()}
    known = jobs[bid.job_id]
    text = JobText(known["title"], known["description"], known["category"], known["required_skills"], known["posted_at"])
    by_text = BidToBe(bid.profile_id, None, text, bid.bid_text, bid.amount, bid.settings, bid.at)
    assert online.features([by_text]).table.equals(online.features([bid]).table)


def test_the_newest_known_outcome_says_how_fresh_the_history_is(online: OnlineFeatures, bids: pa.Table) -> None:
    bid = replayed(bids.to_pylist()[-1])
    found = online.features([bid])
    assert found.newest_outcome[0] is None or found.newest_outcome[0] < found.as_of[0]


def test_a_server_that_was_started_anew_is_found_again(online: OnlineFeatures, bids: pa.Table) -> None:
    bid = replayed(bids.to_pylist()[3])
    before = online.features([bid]).table
    for connection in online._lookup._opened:
        connection.close()
    assert online.features([bid]).table.equals(before)
