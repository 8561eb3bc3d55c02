"""The sensors asked directly, with a real instance, database and store.

That a daemon asks them too is shown in test_loop.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import dagster as dg
import pytest

from bid_assets.app_db.snapshot_reader import open_snapshot
from bid_assets.common.windows import TimeRange, utc_now
from bid_assets.orchestration.assets.raw_tables import CODE_VERSION, FINGERPRINTS, RAW_ASSETS
from bid_assets.orchestration.in_process_runs import partition_tags
from bid_assets.orchestration.run_history import ATTEMPT_TAG, KIND_TAG, REASON_TAG, REFRESH_ASSETS, RunKind
from bid_assets.orchestration.sensors import sensors
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import CodeVersion, Draft
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.app_db.database import bid, execute, insert, outcome, standard_tables

LAST = utc_now() - timedelta(days=8)
Ask = Callable[..., dg.SensorResult]


@pytest.fixture
def url(settings: Settings) -> str:
    assert settings.app_db_url is not None
    standard_tables(settings.app_db_url)
    insert(settings.app_db_url, "bids", [bid("b1", LAST - timedelta(days=21)), bid("b2", LAST)])
    return settings.app_db_url


@pytest.fixture
def store(settings: Settings) -> VersionStore:
    return VersionStore(settings.resolved_store_url)


@pytest.fixture
def ask(settings: Settings, store: VersionStore, dagster_instance: dg.DagsterInstance) -> Ask:
    """What a sensor answers, by name and cursor."""
    by_name = {sensor.name: sensor for sensor in sensors(settings, store)}

    def asked(name: str, cursor: str | None = None) -> dg.SensorResult:
        with dg.build_sensor_context(instance=dagster_instance, cursor=cursor) as context:
            answer = by_name[name](context)
        assert isinstance(answer, dg.SensorResult)
        return answer

    return asked


def read(store: VersionStore, settings: Settings, url: str) -> None:
    """As if the windows of all rows had been read, and all that anything looks back at."""
    with open_snapshot(url, cadence=settings.cadence) as snapshot:
        extent = snapshot.extent()
        assert extent is not None
        keys = settings.cadence.keys(TimeRange(extent.start - 45 * settings.cadence.length, extent.end))
        seen = snapshot.fingerprints(TimeRange(settings.cadence.window(keys[0]).start, settings.cadence.window(keys[-1]).end))
    for key in keys:
        for asset in RAW_ASSETS:
            facts = {FINGERPRINTS: seen.get(key, {})}
            draft = Draft(asset, key, "parquet", f"{seen.get(key)}", code=CodeVersion(None, None, CODE_VERSION), info=facts)
            store.write(draft, lambda path: path.write_bytes(b""))


def queued(instance: dg.DagsterInstance, kind: RunKind, *, failed: bool = False, attempt: int = 1) -> str:
    key = Settings().cadence.key(LAST)
    tags = {KIND_TAG: kind.value, ATTEMPT_TAG: str(attempt), **partition_tags([key])}
    run = dg.DagsterRun(job_name="job", run_id=str(uuid4()), tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    if failed:
        instance.report_run_failed(run, "the machine burned")
    return run.run_id


def test_the_first_tick_asks_for_all_that_the_store_has_not_seen_and_says_which_index_is_missing(
    url: str, ask: Ask, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    execute(url, "drop index bid_outcomes_outcome_timestamp")
    answer = ask("new_outcomes_sensor")
    assert answer.run_requests is not None
    [request] = answer.run_requests
    keys = settings.cadence.keys(TimeRange(LAST - timedelta(days=21), LAST))
    assert partition_tags([keys[0], keys[-1]]).items() <= request.tags.items()
    assert {key.to_user_string() for key in request.asset_selection or ()} == {*RAW_ASSETS}
    assert "bids changed in 2 windows" in request.tags[REASON_TAG]
    assert "CREATE INDEX CONCURRENTLY ON bid_outcomes (outcome_timestamp)" in capfd.readouterr().err
    ask("new_outcomes_sensor", answer.cursor)
    assert "CREATE INDEX" not in capfd.readouterr().err


def test_nothing_new_is_said_so(url: str, ask: Ask, store: VersionStore, settings: Settings) -> None:
    read(store, settings, url)
    first = ask("new_outcomes_sensor")
    assert first.skip_reason is not None
    assert first.skip_reason.skip_message == "no bid and no outcome is new"
    assert not ask("new_outcomes_sensor", first.cursor).run_requests


def test_a_new_outcome_asks_for_its_window_with_raw_tables_and_all_features(
    url: str, ask: Ask, store: VersionStore, settings: Settings
) -> None:
    read(store, settings, url)
    cursor = ask("new_outcomes_sensor").cursor
    insert(url, "bid_outcomes", [outcome("o1", "b1", LAST)])
    answer = ask("new_outcomes_sensor", cursor)
    assert answer.run_requests is not None
    [request] = answer.run_requests
    assert request.partition_key == settings.cadence.key(LAST)
    assert {key.to_user_string() for key in request.asset_selection or ()} == {*REFRESH_ASSETS}
    assert request.tags[ATTEMPT_TAG] == "1"


def test_while_a_refresh_is_in_flight_it_waits_and_its_cursor_with_it(
    url: str, ask: Ask, dagster_instance: dg.DagsterInstance
) -> None:
    run_id = queued(dagster_instance, RunKind.REFRESH)
    answer = ask("new_outcomes_sensor", "where it stood")
    assert answer.skip_reason is not None
    assert f"refresh run {run_id[:8]} is in flight" in str(answer.skip_reason.skip_message)
    assert answer.cursor == "where it stood"


def test_a_failed_refresh_is_asked_for_again_after_its_pause_and_in_the_end_once_an_hour(
    url: str,
    ask: Ask,
    store: VersionStore,
    settings: Settings,
    dagster_instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read(store, settings, url)
    cursor = ask("new_outcomes_sensor").cursor

    def at(later: timedelta) -> dg.SensorResult:
        monkeypatch.setattr("bid_assets.orchestration.sensors.utc_now", lambda: utc_now() + later)
        return ask("new_outcomes_sensor", cursor)

    run_id = queued(dagster_instance, RunKind.REFRESH, failed=True, attempt=2)
    waiting = at(timedelta(0))
    assert waiting.skip_reason is not None
    assert f"refresh run {run_id[:8]} of {settings.cadence.key(LAST)} to" in str(waiting.skip_reason.skip_message)
    again = at(timedelta(seconds=2 * settings.retry_pause_seconds))
    assert again.run_requests is not None
    assert [request.tags[ATTEMPT_TAG] for request in again.run_requests] == ["3"]
    queued(dagster_instance, RunKind.REFRESH, failed=True, attempt=settings.max_attempts)
    slow = at(timedelta(minutes=59))
    assert slow.skip_reason is not None
    assert f"failed after {settings.max_attempts} attempts; it is tried again in" in str(slow.skip_reason.skip_message)
    once_more = at(timedelta(minutes=61))
    assert once_more.run_requests is not None
    assert [request.tags[ATTEMPT_TAG] for request in once_more.run_requests] == [str(settings.max_attempts + 1)]


def test_what_is_no_window_of_ours_is_left_out_and_told(
    url: str, ask: Ask, store: VersionStore, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    read(store, settings, url)
    cursor = ask("new_outcomes_sensor").cursor
    insert(url, "bid_outcomes", [outcome("o1", "b1", datetime(2999, 1, 1, tzinfo=UTC))])
    assert not ask("new_outcomes_sensor", cursor).run_requests
    assert "rows left out: 1 of bid_outcomes after the open window" in capfd.readouterr().err


def test_the_comparison_asks_for_an_edited_window_until_it_has_been_read(
    url: str, ask: Ask, store: VersionStore, settings: Settings
) -> None:
    read(store, settings, url)
    execute(url, "update bids set generated_bid_text = 'Dear client' where id = 'b1'")
    answer = ask("reconciliation_sensor")
    assert answer.run_requests is not None
    [request] = answer.run_requests
    assert settings.cadence.key(LAST - timedelta(days=21)) in str(request.tags)
    assert ask("reconciliation_sensor").run_requests
    read(store, settings, url)
    again = ask("reconciliation_sensor")
    assert again.skip_reason is not None
    assert again.skip_reason.skip_message == "every window is as the store has read it"


@pytest.mark.parametrize("name", ["new_outcomes_sensor", "reconciliation_sensor"])
def test_tables_that_do_not_fit_the_contract_are_named_and_the_cursor_stays(url: str, ask: Ask, name: str) -> None:
    execute(url, "drop table jobs")
    answer = ask(name, None)
    assert answer.skip_reason is not None
    assert "table jobs is missing" in str(answer.skip_reason.skip_message)
    assert answer.cursor is None


def test_the_retraining_sensor_says_why_it_waits(url: str, ask: Ask) -> None:
    answer = ask("retraining_sensor")
    assert answer.skip_reason is not None
    assert "nothing has been read" in str(answer.skip_reason.skip_message)


def test_all_sensors_are_on_without_anybody_turning_them_on(settings: Settings, store: VersionStore) -> None:
    assert {sensor.default_status for sensor in sensors(settings, store)} == {dg.DefaultSensorStatus.RUNNING}
