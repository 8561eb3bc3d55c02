from __future__ import annotations

import os
import signal
import time

import dagster as dg
import orjson
import pytest
from dagster._core.definitions.data_version import SKIP_PARTITION_DATA_VERSION_DEPENDENCY_THRESHOLD

from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.orchestration.in_process_runs import RunOutcome, materialize
from bid_assets.orchestration.io_manager_formats import ParquetIOManager, as_table
from bid_assets.orchestration.io_managers import MissingVersionsError
from bid_assets.orchestration.partitions import MAX_MAPPED_WINDOWS, windows
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.orchestration.io_manager_assets import multiprocess_job, small_defs

FIRST = Cadence.WEEKLY.window("2026-01-05")
KEYS = Cadence.WEEKLY.keys(TimeRange(FIRST.start, FIRST.start + 6 * Cadence.WEEKLY.length))


@pytest.fixture
def store(settings: Settings) -> VersionStore:
    return VersionStore(settings.resolved_store_url)


def run(settings: Settings, instance: dg.DagsterInstance, assets: list[str], keys: list[str], **options: int) -> RunOutcome:
    outcome = materialize(small_defs(settings, **options), instance, assets, keys)
    assert outcome.succeeded, outcome.failures
    return outcome


def test_a_range_run_writes_one_version_per_window(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS)
    assert store.partitions("source") == KEYS
    assert {manifest.rows for manifest in store.versions("source")} == {2}


def test_the_manifest_of_a_window_names_just_the_inputs_that_the_window_looks_at(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS)
    run(settings, dagster_instance, ["doubled"], KEYS[3:])
    sources = store.heads("source", KEYS)
    for index, key in enumerate(KEYS[3:], start=3):
        head = store.head("doubled", key)
        assert head is not None
        assert head.inputs == tuple(sources[past].ref for past in KEYS[index - 2 : index + 1])


def test_what_is_made_in_the_same_run_is_named_by_its_new_version(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS)
    run(settings, dagster_instance, ["source", "doubled"], KEYS[2:], rows_per_window=3)
    head = store.head("doubled", KEYS[-1])
    assert head is not None
    assert {ref.version for ref in head.inputs} == {m.version for m in store.heads("source", KEYS[-3:]).values()}


def test_running_again_makes_no_new_version(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    for _ in range(2):
        run(settings, dagster_instance, ["source"], KEYS)
        run(settings, dagster_instance, ["doubled"], KEYS[2:])
        run(settings, dagster_instance, ["summed", "told"], KEYS[3:4])
    assert [len(store.versions(asset)) for asset in ("source", "doubled", "summed", "told")] == [6, 4, 1, 1]


def test_the_manifest_says_run_code_settings_and_metrics(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS)
    outcome = run(settings, dagster_instance, ["doubled"], KEYS[2:])
    run(settings, dagster_instance, ["told"], KEYS[2:3])
    doubled, told = store.head("doubled", KEYS[2]), store.head("told", KEYS[2])
    assert doubled is not None
    assert told is not None
    assert (doubled.run_id, doubled.code.asset, doubled.settings) == (outcome.run_id, "7", {"cadence": "weekly"})
    assert doubled.schema == ({"name": "at", "type": "timestamp[us, tz=UTC]"}, {"name": "n", "type": "int64"})
    assert told.info == {"metric": 0.5}


def test_a_window_that_nobody_has_made_is_an_error_that_says_how_to_make_it(
    settings: Settings, dagster_instance: dg.DagsterInstance
) -> None:
    run(settings, dagster_instance, ["source"], KEYS[1:3])
    outcome = materialize(small_defs(settings), dagster_instance, ["doubled"], [KEYS[2]])
    assert not outcome.succeeded
    assert f"bid-assets run --from {KEYS[0]} --to {KEYS[0]}" in outcome.failures[0]


def test_a_windowed_input_that_does_not_look_back_must_be_there(
    settings: Settings, dagster_instance: dg.DagsterInstance
) -> None:
    outcome = materialize(small_defs(settings), dagster_instance, ["read_later"], [KEYS[3]])
    assert f"summed has no version for 1 window(s) that this step looks back over ({KEYS[3]})" in outcome.failures[0]
    run(settings, dagster_instance, ["source"], KEYS)
    run(settings, dagster_instance, ["doubled"], KEYS[2:])
    run(settings, dagster_instance, ["summed"], KEYS[3:4])
    run(settings, dagster_instance, ["read_later"], KEYS[3:4])


def test_a_windowed_input_says_itself_what_is_missing(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS[2:3])
    run(settings, dagster_instance, ["told"], KEYS[2:3])
    told = store.head("told", KEYS[2])
    assert told is not None
    assert store.fetch(told).read_text().count("missing") == 1
    assert [ref.partition for ref in told.inputs] == [KEYS[2]]


def test_a_look_back_over_more_windows_than_dagster_maps_reads_and_names_all_of_them(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    keys = Cadence.WEEKLY.keys(TimeRange(FIRST.start - 103 * Cadence.WEEKLY.length, FIRST.start))
    run(settings, dagster_instance, ["source"], keys)
    run(settings, dagster_instance, ["seen_from_afar"], keys[-1:])
    head = store.head("seen_from_afar", keys[-1])
    assert head is not None
    assert orjson.loads(store.fetch(head).read_bytes()) == [ref.partition for ref in head.inputs] == keys[-101:]


def test_a_long_look_back_ends_where_the_windows_begin(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    key = settings.cadence.key(settings.first_moment + 100 * settings.cadence.length)
    every = settings.cadence.keys(TimeRange(settings.first_moment, settings.cadence.window(key).end))
    for last in (99, 100):
        run(settings, dagster_instance, ["seen_from_afar"], [every[last]])
        head = store.head("seen_from_afar", every[last])
        assert head is not None
        assert orjson.loads(store.fetch(head).read_bytes()) == every[: last + 1]


def test_from_100_mapped_partitions_on_dagster_would_not_tell_that_an_input_changed() -> None:
    assert MAX_MAPPED_WINDOWS == SKIP_PARTITION_DATA_VERSION_DEPENDENCY_THRESHOLD - 1


def test_dagster_shows_version_rows_and_inputs_and_takes_the_content_hash_as_data_version(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS[:3])
    run(settings, dagster_instance, ["doubled"], KEYS[2:3])
    event = dagster_instance.get_latest_materialization_event(dg.AssetKey("doubled"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata, head = event.asset_materialization.metadata, store.head("doubled", KEYS[2])
    assert head is not None
    assert metadata["version"].value == head.version
    assert metadata["dagster/row_count"].value == 2
    assert metadata["inputs"].value == "3"
    assert {"path", "bytes", "inputs_table", "inputs_links", "dagster/column_schema"} <= set(metadata)
    assert event.asset_materialization.tags is not None
    assert event.asset_materialization.tags["dagster/data_version"] == head.content_hash


def test_each_window_of_a_range_run_shows_its_own_version(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS)
    records = dagster_instance.fetch_materializations(dg.AssetKey("source"), limit=10).records
    shown = {r.partition_key: r.asset_materialization.metadata["version"].value for r in records if r.asset_materialization}
    assert shown == {key: manifest.version for key, manifest in store.heads("source", KEYS).items()}


def test_a_range_run_shows_the_columns_with_its_last_window_which_is_where_dagster_looks(
    settings: Settings, dagster_instance: dg.DagsterInstance
) -> None:
    run(settings, dagster_instance, ["source"], KEYS)
    records = dagster_instance.fetch_materializations(dg.AssetKey("source"), limit=10).records
    made = [r.asset_materialization for r in records if r.asset_materialization]
    assert [item.partition for item in made if "dagster/column_schema" in item.metadata] == [KEYS[-1]]
    newest = dagster_instance.get_latest_materialization_event(dg.AssetKey("source"))
    assert newest is not None
    assert newest.asset_materialization == made[0]
    assert made[0].partition == KEYS[-1]


def test_deleting_the_runs_in_dagster_leaves_versions_and_lineage_whole(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    outcomes = [run(settings, dagster_instance, [asset], KEYS[2:3]) for asset in ("source", "told")]
    before = {asset: store.versions(asset) for asset in store.assets()}
    for outcome in outcomes:
        dagster_instance.delete_run(outcome.run_id)
    assert {asset: store.versions(asset) for asset in store.assets()} == before


def test_a_flipped_byte_stops_the_step_that_would_read_it(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS[:3])
    head = store.head("source", KEYS[1])
    assert head is not None
    file = store.fetch(head)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    outcome = materialize(small_defs(settings), dagster_instance, ["doubled"], [KEYS[2]])
    assert not outcome.succeeded
    assert head.file in outcome.failures[0]


@pytest.mark.slow
def test_inputs_are_written_down_in_processes_of_their_own_too(
    settings: Settings, dagster_instance: dg.DagsterInstance, store: VersionStore
) -> None:
    run(settings, dagster_instance, ["source"], KEYS[:3])
    run(settings, dagster_instance, ["doubled"], KEYS[2:3])
    job = dg.reconstructable(multiprocess_job)
    with dg.execute_job(job, dagster_instance, tags={"dagster/partition": KEYS[3]}) as result:
        assert result.success
    head, doubled = store.head("summed", KEYS[3]), store.heads("doubled", KEYS[2:4])
    assert head is not None
    assert head.inputs == tuple(doubled[key].ref for key in KEYS[2:4])


def test_a_range_of_an_asset_with_one_value_per_window_is_refused(
    settings: Settings, dagster_instance: dg.DagsterInstance
) -> None:
    run(settings, dagster_instance, ["source"], KEYS)
    outcome = materialize(small_defs(settings), dagster_instance, ["told"], KEYS[:2])
    assert "run them one by one" in outcome.failures[0]


def test_what_is_no_table_is_refused_as_one() -> None:
    with pytest.raises(TypeError, match="got list"):
        as_table([1, 2])


def test_missing_versions_are_not_retried() -> None:
    assert MissingVersionsError("raw_bids", ["2026-01-05"]).allow_retries is False
    assert ParquetIOManager.extension == "parquet"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_a_step_is_not_taken_for_a_failure_after_which_the_next_run_may_start(
    settings: Settings, dagster_instance: dg.DagsterInstance, number: signal.Signals
) -> None:
    @dg.asset(partitions_def=windows(settings))
    def interrupted() -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        materialize(
            dg.Definitions([interrupted], executor=dg.in_process_executor), dagster_instance, ["interrupted"], [KEYS[0]]
        )
    [run_record] = dagster_instance.get_run_records()
    assert run_record.dagster_run.status is dg.DagsterRunStatus.FAILURE


def test_a_run_that_cannot_even_start_says_why(settings: Settings, dagster_instance: dg.DagsterInstance) -> None:
    @dg.resource
    def broken() -> None:
        raise ValueError("the disk is gone")

    @dg.asset(partitions_def=windows(settings), required_resource_keys={"disk"})
    def wanting() -> None: ...

    definitions = dg.Definitions([wanting], resources={"disk": broken}, executor=dg.in_process_executor)
    outcome = materialize(definitions, dagster_instance, ["wanting"], [KEYS[0]])
    assert not outcome.succeeded
    [failure] = outcome.failures
    assert "disk" in failure
