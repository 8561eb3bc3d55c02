"""Online equals offline: past bids, asked about again at their own time, have the features that the store has, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.features.embeddings.model_files import EncoderUnavailableError
from bid_assets.serving.bid_requests import BidRequest, JobDetails
from bid_assets.serving.online_features import OnlineFeatures
from bid_assets_tests.platforms import Platform
from bid_assets_tests.serving.replays import all_rows, assert_same, replay_request, stored_features


@pytest.fixture(scope="module")
def online(platform: Platform) -> Iterator[OnlineFeatures]:
    made = OnlineFeatures(platform.settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def bids(platform: Platform) -> pa.Table:
    return all_rows(platform, "raw_bids").sort_by("id")


@pytest.fixture(scope="module")
def stored(platform: Platform, bids: pa.Table) -> pa.Table:
    return stored_features(platform, bids)


def test_every_past_bid_has_the_features_of_the_store(online: OnlineFeatures, bids: pa.Table, stored: pa.Table) -> None:
    rows = bids.slice(0, 400)
    found = online.features([replay_request(bid) for bid in rows.to_pylist()])
    assert_same(found.table, stored.slice(0, 400))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_law_online_equals_offline_for_any_bids_asked_about_together(
    online: OnlineFeatures, bids: pa.Table, stored: pa.Table, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, bids.num_rows - 1), min_size=1, max_size=8))
    index = pa.array(chosen)
    found = online.features([replay_request(bid) for bid in bids.take(index).to_pylist()])
    assert_same(found.table, stored.take(index))


def test_bids_asked_about_together_do_not_see_each_other(online: OnlineFeatures, bids: pa.Table) -> None:
    bid = replay_request(bids.to_pylist()[-1])
    assert bid.at is not None
    later = BidRequest(bid.profile_id, bid.job_id, at=bid.at + timedelta(days=1))
    alone = [online.features([one]).table for one in (bid, later)]
    assert online.features([bid, later]).table.equals(pa.concat_tables(alone).combine_chunks())


def test_without_embeddings_no_encoder_is_needed_and_all_else_is_the_same(
    online: OnlineFeatures, platform: Platform, bids: pa.Table, stored: pa.Table
) -> None:
    without = OnlineFeatures(platform.settings.model_copy(update={"encoder": "/nowhere/model"}))
    chosen = [replay_request(bid) for bid in bids.slice(0, 20).to_pylist()]
    try:
        found = without.features(chosen, embeddings=False).table
        assert_same(found, stored.slice(0, 20).drop_columns(["job_description_embedding", "bid_text_embedding"]))
        assert (without.hits, without.misses) == (0, 0)
        with pytest.raises(EncoderUnavailableError, match="names the folder /nowhere/model"):
            without.features(chosen)
    finally:
        without.close()


def test_what_is_missing_is_named_and_null(online: OnlineFeatures) -> None:
    found = online.features([BidRequest("nobody", "nothing")])
    assert found.missing == [
        ["profile unknown", "job unknown", "no history", "no bid text", "no amount", "no settings", "no external signals"]
    ]
    row = found.table.to_pylist()[0]
    assert row["profile_type"] is None
    assert row["bid_text_embedding"] is None
    assert row["bids_90d"] == 0
    assert found.newest_outcome == [None]


def test_a_job_that_is_only_text_counts_like_one_of_the_database(
    online: OnlineFeatures, platform: Platform, bids: pa.Table
) -> None:
    bid = replay_request(bids.to_pylist()[7])
    jobs = {job["id"]: job for job in all_rows(platform, "raw_jobs").to_pylist()}
    known = jobs[bid.job_id]
    text = JobDetails(**{name: known[name] for name in JobDetails.__dataclass_fields__})
    by_text = BidRequest(bid.profile_id, None, text, bid.bid_text, bid.amount, bid.settings, bid.external_signals, bid.at)
    assert online.features([by_text]).table.equals(online.features([bid]).table)


def test_the_newest_known_outcome_says_how_fresh_the_history_is(online: OnlineFeatures, bids: pa.Table) -> None:
    bid = replay_request(bids.to_pylist()[-1])
    found = online.features([bid])
    assert found.newest_outcome[0] is None or found.newest_outcome[0] < found.as_of[0]


@pytest.mark.parametrize("budget", [10**30, float("nan"), "\ud800", {"of": 5}])
def test_settings_that_are_rubbish_are_no_error(online: OnlineFeatures, bids: pa.Table, budget: object) -> None:
    bid = replace(replay_request(bids.to_pylist()[3]), settings={"budget": budget, "duration_weeks": 3})
    [row] = online.features([bid]).table.to_pylist()
    assert row["budget"] in (None, 1e30)
    assert row["duration_weeks"] in (None, 3)


def test_a_server_that_was_started_anew_is_found_again(online: OnlineFeatures, bids: pa.Table) -> None:
    bid = replay_request(bids.to_pylist()[3])
    before = online.features([bid]).table
    for connection in online.lookup._connections:
        connection.close()
    assert online.features([bid]).table.equals(before)
