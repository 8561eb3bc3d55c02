"""Where history begins: fixed by a setting or taken from the data, the same in every process; nothing before it is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from bid_assets.common.windows import Cadence, utc_now
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.first_window import oldest_window, update_first_window, with_first_window
from bid_assets.orchestration.main_job import resolve_range
from bid_assets.orchestration.refresh.change_detection import DetectedChanges, detect_new_rows, reconcile
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import METADATA, read_metadata
from bid_assets_tests.app_db.database import bid, insert, outcome, standard_tables
from bid_assets_tests.platforms import call_json, small_platform

DAWN = datetime(1998, 1, 7, 12, tzinfo=UTC)
OPEN = Cadence.WEEKLY.floor(utc_now())
RECENT = OPEN - timedelta(weeks=3)


@pytest.fixture
def url(settings: Settings) -> str:
    assert settings.app_db_url is not None
    return standard_tables(settings.app_db_url)


@pytest.fixture
def store(settings: Settings) -> VersionStore:
    return VersionStore(settings.resolved_store_url)


def first_partition(settings: Settings, store: VersionStore) -> str | None:
    node = build_defs(settings, store).resolve_asset_graph().get(dg.AssetKey("raw_bids"))
    assert node.partitions_def is not None
    return node.partitions_def.get_first_partition_key()


def windows_of(changes: DetectedChanges) -> set[str]:
    return set().union(*changes.windows.values())


def test_a_run_begins_where_the_data_begin_however_long_ago(settings: Settings, store: VersionStore, url: str) -> None:
    insert(url, "bids", [bid("b1", DAWN), bid("b2", RECENT)])
    _, span, outside = resolve_range(settings, store, datetime(1998, 1, 5), None)  # noqa: DTZ001 - as click gives it
    assert (span.start, outside) == (Cadence.WEEKLY.floor(DAWN), [])
    assert first_partition(settings, store) == "1998-01-05"


def test_the_first_window_moves_back_and_never_forward(settings: Settings, store: VersionStore) -> None:
    for oldest, expected in ((RECENT, RECENT), (DAWN, DAWN), (RECENT, DAWN), (None, DAWN)):
        assert update_first_window(settings, store, oldest).first_moment == Cadence.WEEKLY.floor(expected)
    assert with_first_window(settings, store).first_moment == Cadence.WEEKLY.floor(DAWN)


def test_before_any_data_every_window_is_known(settings: Settings, store: VersionStore) -> None:
    assert first_partition(settings, store) == "1970-01-05"


def test_the_setting_fixes_it_and_what_is_older_is_counted(settings: Settings, store: VersionStore, url: str) -> None:
    insert(url, "bids", [bid("b1", DAWN), bid("b2", RECENT), bid("b3", OPEN + timedelta(days=400))])
    insert(url, "bid_outcomes", [outcome("o1", "b1", DAWN)])
    fixed = Settings(start="2020-01-06")
    _, span, outside = resolve_range(fixed, store, None, None)
    assert (span.start, span.end) == (datetime(2020, 1, 6, tzinfo=UTC), OPEN + timedelta(weeks=1))
    assert {(count.table, count.before, count.after) for count in outside} == {("bids", 1, 1), ("bid_outcomes", 1, 0)}
    [warning] = reconcile(fixed, store, None).warnings
    assert warning.startswith(
        "rows left out: 1 of bids and 1 of bid_outcomes before the first window 2020-01-06 (BID_ASSETS_START)"
    )
    assert first_partition(fixed, store) == "2020-01-06"


def test_a_rejected_row_with_an_odd_date_moves_nothing_and_is_counted(
    settings: Settings, store: VersionStore, url: str
) -> None:
    insert(url, "bids", [bid("b1", RECENT), bid("b0", DAWN, profile_id="nobody")])
    changes = detect_new_rows(settings, store, None)
    assert windows_of(changes) == {Cadence.WEEKLY.key(RECENT)}
    assert "1 of bids before the first window" in changes.warnings[0]
    assert oldest_window(settings, store) == RECENT
    # nor does it where the setting would have room for it
    assert reconcile(Settings(start="1998-01-05"), store, None).windows == changes.windows


def test_older_bids_wait_for_definitions_that_know_their_window_and_are_then_asked_for(
    settings: Settings, store: VersionStore, url: str
) -> None:
    insert(url, "bids", [bid("b1", RECENT)])
    detect_new_rows(settings, store, None)
    of_code_server = with_first_window(settings, store)
    insert(url, "bids", [bid("b0", DAWN)])
    before = reconcile(of_code_server, store, None)
    assert windows_of(before) == {Cadence.WEEKLY.key(RECENT)}
    assert "the first window is now 1998-01-05" in before.warnings[0]
    loaded_again = with_first_window(settings, store)
    assert windows_of(reconcile(loaded_again, store, before.cursor)) == {"1998-01-05", Cadence.WEEKLY.key(RECENT)}


def test_a_damaged_or_missing_record_is_made_good_by_what_was_read_and_by_the_next_look(
    settings: Settings, store: VersionStore
) -> None:
    store.write(Draft("raw_bids", "2026-01-05", "parquet", "rows"), lambda path: path.write_bytes(b""))
    assert oldest_window(settings, store) == datetime(2026, 1, 5, tzinfo=UTC)
    update_first_window(settings, store, DAWN)
    Path(store.url, METADATA).write_bytes(b"")
    assert oldest_window(settings, store) == datetime(2026, 1, 5, tzinfo=UTC)


def test_what_a_run_leaves_out_is_in_its_json(postgres: object, tmp_path: Path, static_encoder: Path) -> None:
    with small_platform(postgres, tmp_path, static_encoder) as platform:  # type: ignore[arg-type]
        assert platform.settings.app_db_url is not None
        insert(platform.settings.app_db_url, "bids", [bid("old", DAWN, profile_id="nobody")])
        assert call_json("run")["rows_left_out"] == [{"table": "bids", "before": 1, "after": 0}]
        assert read_metadata(platform.store)["oldest_window"] == min(platform.store.partitions("raw_bids"))
