"""The state that the retraining policy decides on, gathered from a real store and instance."""

from __future__ import annotations

import dagster as dg
import pytest

from bid_assets.orchestration.retraining.state import gather_state
from bid_assets.orchestration.run_history import RunKind
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import CodeVersion, Draft, InputRef, Manifest
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.orchestration.test_run_history import run_of

OLDER, NEWER = "2026-11-09", "2026-11-16"


@pytest.fixture
def store(settings: Settings) -> VersionStore:
    return VersionStore(settings.resolved_store_url)


def write(store: VersionStore, asset: str, key: str, *inputs: Manifest) -> Manifest:
    refs = tuple(InputRef(made.asset, made.partition, made.version, made.content_hash) for made in inputs)
    draft = Draft(asset, key, "json", f"{asset} {key} {refs}", code=CodeVersion(None, None, "1"), inputs=refs, rows=60)
    return store.write(draft, lambda path: path.write_bytes(b"{}")).manifest


def test_a_dataset_whose_run_ended_before_the_decision_is_undecided(
    settings: Settings, store: VersionStore, dagster_instance: dg.DagsterInstance
) -> None:
    dataset = write(store, "training_dataset", NEWER)
    model = write(store, "trained_model", NEWER, dataset)
    assert gather_state(dagster_instance, store, settings).undecided_dataset == dataset.version
    run_of(dagster_instance, RunKind.RETRAINING, "failed", NEWER, attempt=None)
    assert gather_state(dagster_instance, store, settings).undecided_dataset == dataset.version
    write(store, "deployment", NEWER, model)
    assert gather_state(dagster_instance, store, settings).undecided_dataset is None


@pytest.mark.parametrize("outcome", ["succeeded", "canceled"])
def test_a_run_that_ended_well_without_a_model_or_was_canceled_by_a_person_is_not_repeated(
    settings: Settings, store: VersionStore, dagster_instance: dg.DagsterInstance, outcome: str
) -> None:
    write(store, "training_dataset", NEWER)
    run_of(dagster_instance, RunKind.RETRAINING, outcome, NEWER)
    assert gather_state(dagster_instance, store, settings).undecided_dataset is None


def test_outcomes_are_new_since_the_dataset_of_the_newest_window_though_an_older_window_had_one_made_later(
    settings: Settings, store: VersionStore, dagster_instance: dg.DagsterInstance
) -> None:
    read = [write(store, "raw_bid_outcomes", key) for key in (OLDER, NEWER)]
    write(store, "training_dataset", NEWER, *read)
    write(store, "training_dataset", OLDER, read[0])
    assert gather_state(dagster_instance, store, settings).outcomes_since_last_dataset == 0
