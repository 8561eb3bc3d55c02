from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.in_process_runs import partition_tags
from bid_assets.orchestration.partitions import windows
from bid_assets.orchestration.run_history import ATTEMPT_TAG, REASON_TAG
from bid_assets.orchestration.schedules import schedules
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.store import VersionStore

NIGHT = datetime(2026, 11, 18, 2, tzinfo=UTC)
MONDAY = datetime(2026, 11, 23, 0, 15, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


def read(store: VersionStore, *keys: str) -> None:
    """As if these windows had been read from the application's database."""
    for asset in RAW_ASSETS:
        for key in keys:
            store.write(Draft(asset, key, "parquet", "hash"), lambda path: path.write_bytes(b""))


def read_until(store: VersionStore, key: str) -> None:
    """As if all windows that anything looks back at had been read, up to this one."""
    end = Cadence.WEEKLY.window(key).end
    read(store, *Cadence.WEEKLY.keys(TimeRange(end - timedelta(weeks=45), end)))


def asked(store: VersionStore, name: str, at: datetime, settings: Settings | None = None) -> dg.RunRequest | dg.SkipReason:
    """The answer of a schedule, one request taken out of its list."""
    settings = settings or Settings()
    [schedule] = [each for each in schedules(settings, store) if each.name == name]
    with dg.build_schedule_context(scheduled_execution_time=at) as context:
        answer = schedule(context)
    if isinstance(answer, list):
        [answer] = answer
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def test_every_night_the_open_window_is_read_again(store: VersionStore) -> None:
    read_until(store, "2026-11-16")
    request = asked(store, "nightly_refresh", NIGHT)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-11-16"
    assert request.tags[REASON_TAG] == "the night of 2026-11-18"
    assert request.tags[ATTEMPT_TAG] == "1"


def test_windows_that_nobody_has_read_meanwhile_are_made_with_it(store: VersionStore) -> None:
    read_until(store, "2026-10-26")
    request = asked(store, "nightly_refresh", NIGHT)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key is None
    assert partition_tags(["2026-11-02", "2026-11-16"]).items() <= request.tags.items()


@pytest.mark.parametrize("name", ["nightly_refresh", "close_window_schedule"])
def test_nothing_is_asked_for_before_anything_was_read(store: VersionStore, name: str) -> None:
    answer = asked(store, name, NIGHT)
    assert isinstance(answer, dg.SkipReason)
    assert "nothing has been read" in str(answer.skip_message)


def test_a_market_that_fell_silent_long_ago_is_left_alone(store: VersionStore) -> None:
    read(store, "2024-08-12")
    answer = asked(store, "nightly_refresh", NIGHT)
    assert isinstance(answer, dg.SkipReason)
    assert "2024-08-12" in str(answer.skip_message)


def test_when_a_window_has_ended_it_is_closed(store: VersionStore) -> None:
    read(store, "2026-11-16")
    request = asked(store, "close_window_schedule", MONDAY)
    assert isinstance(request, dg.RunRequest)
    assert (request.partition_key, request.run_key) == ("2026-11-16", "close 2026-11-16")


def test_days_are_closed_every_day(store: VersionStore) -> None:
    read(store, "2026-11-17")
    request = asked(store, "close_window_schedule", NIGHT, Settings(cadence=Cadence.DAILY))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-11-17"


def test_they_are_on_without_anybody_turning_them_on(store: VersionStore) -> None:
    assert {each.default_status for each in schedules(Settings(), store)} == {dg.DefaultScheduleStatus.RUNNING}


def test_what_they_ask_for_are_windows_that_dagster_knows(store: VersionStore) -> None:
    read_until(store, "2026-11-16")
    settings = Settings()
    for name, at in (("nightly_refresh", NIGHT), ("close_window_schedule", MONDAY)):
        request = asked(store, name, at, settings)
        assert isinstance(request, dg.RunRequest)
        assert request.partition_key in windows(settings).get_partition_keys(current_time=MONDAY)
