"""JSON values and times that are there and cannot be read are counted by window, column and reason, and a check shows the
share."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from bid_assets.common.windows import Cadence
from bid_assets.orchestration.asset_checks import readable_values_result
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.in_process_runs import materialize
from bid_assets.orchestration.refresh import change_detection
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.app_db.database import bid, insert, standard_tables

FIRST = Cadence.WEEKLY.window("2026-01-05").start
KEYS = ["2026-01-05", "2026-01-12"]


def settings_text(index: int) -> str:
    return "rubbish" if index == 0 else f'{{"budget": {"-1" if index < 3 else index}, "is_fixed_price": 1}}'


@pytest.fixture
def store(settings: Settings, dagster_instance: dg.DagsterInstance) -> VersionStore:
    """Two windows, read and computed in one run: in the first one all can be read, in the second one not."""
    assert settings.app_db_url is not None
    standard_tables(settings.app_db_url)
    insert(settings.app_db_url, "profiles", [{"id": "p2", "skills": "[1, 2]"}, {"id": "p3", "skills": "{sql,css}"}])
    insert(
        settings.app_db_url,
        "jobs",
        [
            {"id": "j2", "required_skills": '["half', "posted_at": "infinity"},
            {"id": "j3", "required_skills": "a, b", "posted_at": FIRST},
        ],
    )
    good = [bid(f"g{i}", FIRST + timedelta(hours=i), profile_id="p3", job_id="j3") for i in range(3)]
    bad = [
        bid(
            f"b{i}",
            FIRST + timedelta(days=7, hours=i),
            profile_id="p2" if i else "p3",
            job_id="j2",
            bid_settings_snapshot=settings_text(i),
            external_signals_snapshot='{"rating": NaN}' if i else "{",
        )
        for i in range(4)
    ]
    insert(settings.app_db_url, "bids", [*good, *bad])
    store = VersionStore(settings.resolved_store_url)
    outcome = materialize(
        build_defs(settings, store), dagster_instance, [*RAW_ASSETS, "bid_temporal_features", "word_features"], KEYS
    )
    assert outcome.succeeded, outcome.failures
    return store


def counts(store: VersionStore, asset: str) -> list[Any]:
    return [store.heads(asset, KEYS)[key].info["unreadable_values"] for key in KEYS]


def test_unreadable_values_are_in_the_manifest_the_metadata_and_the_check(
    store: VersionStore, dagster_instance: dg.DagsterInstance
) -> None:
    no_times: dict[str, Any] = {"created_at": {}, "updated_at": {}}
    assert counts(store, "raw_profiles") == [
        {"skills": {"": 1}} | no_times,
        {"skills": {"": 1, "not a list of texts": 1}} | no_times,
    ]
    assert counts(store, "raw_jobs") == [
        {"required_skills": {"": 1}, "posted_at": {"": 1}},
        {"required_skills": {"not a list of texts": 1}, "posted_at": {"an infinite time": 1}},
    ]
    assert counts(store, "word_features")[1] == {"external_signals_snapshot": {"": 3, "not JSON": 1}}
    assert counts(store, "bid_temporal_features")[1] == {
        "bid_settings_snapshot": {"": 3, "not JSON": 1},
        "bid_settings_snapshot.budget": {"": 1, "a negative number": 2},
        "bid_settings_snapshot.duration_weeks": {},
        "bid_settings_snapshot.is_fixed_price": {"": 3},
    }
    key = dg.AssetKey("bid_temporal_features")
    [record] = dagster_instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[KEYS[1]]), limit=1
    ).records
    assert record.asset_materialization is not None
    metadata = record.asset_materialization.metadata
    assert metadata["unreadable_values"].value == 3
    table = metadata["unreadable_values_by_reason"]
    assert isinstance(table, dg.TableMetadataValue)
    assert {"column": "bid_settings_snapshot.budget", "reason": "a negative number", "values": 2, "of": 3} in [
        row.data for row in table.records
    ]
    check = dg.AssetCheckKey(key, "values_are_readable")
    [executed] = dagster_instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
    assert executed.event is not None
    evaluation = executed.event.asset_check_evaluation
    assert evaluation is not None
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert (evaluation.passed, evaluation.metadata["unreadable_share_bid_settings_snapshot"].value) == (False, 0.25)


def test_windows_that_older_code_has_read_are_read_again(store: VersionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(change_detection.recorded_fingerprints(store).values())
    monkeypatch.setattr(change_detection, "CODE_VERSION", "newer")
    assert change_detection.recorded_fingerprints(store) == {key: {} for key in KEYS}


@pytest.mark.parametrize(("unreadable", "passes"), [(0, True), (1, True), (2, False)])
def test_the_check_warns_from_a_share_of_one_in_a_hundred(unreadable: int, passes: bool) -> None:
    result = readable_values_result("raw_jobs", [{"skills": {"": 100 - unreadable}}, {"skills": {"not a list": unreadable}}])
    assert (result.passed, result.metadata["unreadable_share_skills"].value) == (passes, unreadable / 100)
