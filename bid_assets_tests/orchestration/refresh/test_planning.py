"""The planner over a real store: whatever happens to the rows, and wherever a run dies, all features end up made from the rows
of now.

Runs are executed by a small stand-in that writes the versions which the assets would write, so that hundreds of histories fit
in seconds; the real assets under the real daemon are in test_loop.py and test_soak.py.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bid_assets.common.windows import Cadence, TimeRange, utc_now
from bid_assets.features.family import FeatureFamily
from bid_assets.features.registry import families
from bid_assets.orchestration.assets.raw_tables import CODE_VERSION, FINGERPRINTS, RAW_ASSETS
from bid_assets.orchestration.partitions import windows_for_days
from bid_assets.orchestration.refresh import planning
from bid_assets.orchestration.refresh.change_detection import compare_fingerprints, recorded_fingerprints
from bid_assets.orchestration.refresh.planning import dataset_windows, plan_refreshes, read_windows, windows_in_reach
from bid_assets.orchestration.refresh.run_ranges import Refresh, with_lookback
from bid_assets.orchestration.refresh.staleness import stale_windows
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import CodeVersion, Draft
from bid_assets.version_store.plain_json import json_hash
from bid_assets.version_store.store import VersionStore

WEEKLY = Cadence.WEEKLY
NOW = WEEKLY.floor(utc_now())
WEEKS = WEEKLY.keys(TimeRange(NOW - timedelta(weeks=14), NOW))
SETTINGS = Settings(encoder="static", lookback_windows=4, start=(NOW - timedelta(weeks=14)).date())
NAMES = ("profile_historical_features", "job_description_embeddings", "profile_features")
REACH = 4
"""Windows that history looks at here, its own included: fewer than in truth, for speed."""
SOME = tuple(replace(f, lookback_days=7 * (REACH - 1) if f.lookback_days else 0) for f in families() if f.name in NAMES)
TABLES = ("bids", "bid_outcomes", "jobs", "profiles")


class KilledError(Exception):
    """The process of a run is gone."""


class Market:
    """Rows by window and table, and runs that write what the assets would write of them."""

    def __init__(self, store: VersionStore) -> None:
        self.store = store
        self.rows: dict[str, Counter[str]] = {}
        self.writes_left: int | None = None

    def change(self, window: str, table: str) -> None:
        self.rows.setdefault(window, Counter())[table] += 1

    def fingerprints(self) -> dict[str, dict[str, list[Any]]]:
        return {key: {table: [count, str(count)] for table, count in rows.items()} for key, rows in self.rows.items()}

    def changed(self) -> dict[str, set[str]]:
        return compare_fingerprints(recorded_fingerprints(self.store), self.fingerprints())

    def run(self, refresh: Refresh) -> None:
        keys = refresh.keys(WEEKLY)
        if refresh.reads_raw:
            seen = self.fingerprints()
            for asset in RAW_ASSETS:
                for key in keys:
                    self._write_raw(asset, key, seen.get(key, {}))
        for family in SOME:
            if family.name in refresh.families:
                for key in keys:
                    self._write_features(family, key)

    def _write_raw(self, asset: str, key: str, seen: dict[str, list[Any]]) -> None:
        content = seen if asset == "rejected_rows" else seen.get(asset.removeprefix("raw_"), [0])
        rows = self.rows.get(key, Counter())[asset.removeprefix("raw_")]
        code = CodeVersion(None, None, CODE_VERSION)
        self._write(Draft(asset, key, "parquet", json_hash(content), code=code, rows=rows, info={FINGERPRINTS: seen}))

    def _write_features(self, family: FeatureFamily, key: str) -> None:
        sight = sorted(with_lookback([key], windows_for_days(WEEKLY, family.lookback_days), WEEKLY, WEEKS[0]))
        heads = [self.store.heads(table, sight) for table in family.reads]
        assert all(list(head) == sight for head in heads), "features over raw windows that nobody has read"
        inputs = tuple(manifest.ref for head in heads for manifest in head.values())
        code = CodeVersion(None, None, family.code_version)
        settings = {"encoder": "static"} if family.needs_encoder else {}
        self._write(Draft(family.name, key, "parquet", json_hash(inputs), inputs=inputs, code=code, settings=settings))

    def _write(self, draft: Draft) -> None:
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                raise KilledError
        self.store.write(draft, lambda path: path.write_bytes(b""))


def bring_up_to_date(market: Market) -> int:
    """Stage after stage until nothing is due, as the loop and the command do it; the number of runs."""
    runs: list[Refresh] = []
    check: set[str] = set()
    for _ in range(10):
        stage = plan_refreshes(SETTINGS, market.store, market.changed(), check=check | read_windows(market.store))
        if not stage:
            return len(runs)
        for refresh in stage:
            market.run(refresh)
        runs += stage
        check = windows_in_reach(SETTINGS, stage)
    raise AssertionError(f"still not up to date after {runs}")


def stale(market: Market) -> dict[str, list[str]]:
    held = [key for key, rows in market.rows.items() if rows["bids"]]
    keys = sorted({*held, *dataset_windows(SETTINGS, market.store), *market.store.partitions(SOME[0].name)})
    return stale_windows(market.store, SETTINGS, SOME, keys) if keys else {}


@pytest.fixture(autouse=True)
def few_families_and_no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "families", lambda: SOME)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def market() -> Iterator[Market]:
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        yield Market(VersionStore(folder))


def in_memory() -> str | None:
    """A folder in memory, where there is one: these tests write thousands of tiny files."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


windows = st.sampled_from(WEEKS)
changes = st.tuples(st.just("change"), windows, st.sampled_from(TABLES))
steps = st.one_of(
    changes,
    changes,
    st.tuples(st.just("refresh of a range"), windows, windows),
    st.tuples(st.just("killed after"), st.integers(0, 60), st.none()),
    st.tuples(st.just("up to date"), st.none(), st.none()),
)


@settings(max_examples=20)
@given(history=st.lists(steps, max_size=12))
def test_after_any_history_no_features_name_a_raw_version_that_is_not_head(history: list[tuple[str, Any, Any]]) -> None:
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        market = Market(VersionStore(folder))
        for step, one, other in history:
            market.writes_left = one if step == "killed after" else None
            if step == "change":
                market.change(one, other)
            elif step == "refresh of a range":  # somebody reads a few raw windows again, in the UI
                market.run(Refresh(min(one, other), max(one, other), frozenset()))
            else:
                try:
                    bring_up_to_date(market)
                except KilledError:
                    continue
                assert stale(market) == {}
        market.writes_left = None
        bring_up_to_date(market)
        assert stale(market) == {}
        assert market.changed() == {}


def test_a_store_that_is_up_to_date_needs_nothing(market: Market) -> None:
    market.change(WEEKS[-1], "bids")
    assert bring_up_to_date(market) > 0
    assert bring_up_to_date(market) == 0


def test_the_first_refresh_reads_what_features_and_the_dataset_look_back_at(market: Market) -> None:
    market.change(WEEKS[10], "bids")
    bring_up_to_date(market)
    assert market.store.partitions("profile_features") == WEEKS[7:11]
    assert market.store.partitions("raw_bids") == WEEKS[4:11]


def test_a_bid_dated_back_beyond_the_known_windows_is_read_with_its_look_back_and_needs_no_window_between(
    market: Market,
) -> None:
    for key in WEEKS[12:]:
        market.change(key, "bids")
    bring_up_to_date(market)
    market.change(WEEKS[3], "bids")
    bring_up_to_date(market)
    assert {*WEEKS[:4]} <= set(market.store.partitions("raw_bids"))
    assert "profile_features" in market.store.assets()
    assert WEEKS[3] in market.store.partitions("profile_historical_features")
    assert stale(market) == {}


def test_a_raw_table_that_was_read_anew_unnoticed_makes_its_features_again(market: Market) -> None:
    for key in WEEKS[10:]:
        market.change(key, "bids")
    bring_up_to_date(market)
    market.change(WEEKS[11], "jobs")
    market.run(Refresh(WEEKS[11], WEEKS[11], frozenset(["profile_historical_features"])))
    assert market.changed() == {}
    [refresh] = plan_refreshes(SETTINGS, market.store, {}, check=read_windows(market.store))
    assert (refresh.first, refresh.last, refresh.reads_raw) == (WEEKS[11], WEEKS[11], False)
    assert refresh.families == {"job_description_embeddings", "profile_features"}


def test_a_window_without_bids_that_has_features_of_any_family_needs_those_of_all(market: Market) -> None:
    market.change(WEEKS[10], "bids")
    bring_up_to_date(market)
    market.run(Refresh(WEEKS[5], WEEKS[5], frozenset([SOME[-1].name]), reads_raw=False))
    bring_up_to_date(market)
    assert all(WEEKS[5] in market.store.partitions(family.name) for family in SOME)


def test_a_read_that_was_killed_half_way_is_not_taken_for_a_complete_one(market: Market) -> None:
    market.change(WEEKS[-1], "bids")
    bring_up_to_date(market)
    market.change(WEEKS[-1], "bids")
    market.change(WEEKS[-1], "jobs")
    market.writes_left = 1
    with pytest.raises(KilledError):
        market.run(Refresh(WEEKS[-1], WEEKS[-1], frozenset()))
    assert market.changed() == {"bids": {WEEKS[-1]}, "jobs": {WEEKS[-1]}}
