"""A decision on which nothing has changed is not made again, and printed as such; any change of its inputs makes it due."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from bid_assets.common.windows import Cadence
from bid_assets.deployments import events
from bid_assets.deployments.events import Action, Event, read_history
from bid_assets.orchestration.assets import model as model_assets
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.retraining import decision_staleness
from bid_assets.orchestration.retraining.decision_staleness import decision_is_current
from bid_assets.settings import get_settings
from bid_assets.version_store import store as store_module
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.platforms import RAW, Platform, call, call_json, make, small_platform

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platform(postgres: Any, tmp_path_factory: pytest.TempPathFactory, static_encoder: Path) -> Iterator[Platform]:
    """A market of eight weeks, and the main job run over it."""
    with small_platform(postgres, tmp_path_factory.mktemp("platform"), static_encoder) as made:
        yield made


@pytest.fixture
def copy(platform: Platform, tmp_path: Path) -> Platform:
    """The platform with a store of its own to change."""
    shutil.copytree(platform.store.url, tmp_path / "store")
    return replace(platform, store=VersionStore(str(tmp_path / "store")))


def is_current(platform: Platform, *accept: str, **values: object) -> bool:
    settings = platform.settings.model_copy(update=values)
    return decision_is_current(build_defs(settings, platform.store), settings, platform.store, platform.window, accept)


def runs() -> int:
    with open_instance() as instance:
        return len(instance.get_runs())


def test_an_unchanged_decision_makes_no_run_and_says_so(platform: Platform) -> None:
    before, count = platform.versions(), runs()
    [decision] = call_json("run")["cutoff_windows"]
    [first] = platform.first_run["cutoff_windows"]
    assert not first["unchanged"]
    assert decision == {**first, "unchanged": True}
    output = " ".join(call("run").stdout.split())
    assert (
        f"Not decided again, since inputs, settings and code are those of the decision that stands: {platform.window}."
        in output
    )
    assert (platform.versions(), runs()) == (before, count)


def test_an_unchanged_run_reads_each_manifest_once(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    parse = store_module.parsed_manifest
    monkeypatch.setattr(store_module, "parsed_manifest", lambda path, text: read.append(path) or parse(path, text))
    call("run")
    assert len(read) == len(set(read)) >= len(platform.first_run["windows"]) * len(RAW)


@pytest.mark.parametrize(
    "change",
    [
        {"holdout_share": 0.3},
        {"lookback_windows": 5},
        {"lookback_windows": "auto"},
        {"vocabulary_size": 8},
        {"hyperparameters": "another"},
        {"min_roc_auc": 0.51},
        {"max_rejected_share": 0.5},
    ],
    ids=str,
)
def test_it_is_due_with_another_setting_of_dataset_model_decision_or_check(
    platform: Platform, change: dict[str, object]
) -> None:
    assert is_current(platform)
    assert not is_current(platform, **change)


def test_it_is_due_with_a_check_to_accept_which_is_part_of_the_config(platform: Platform) -> None:
    assert not is_current(platform, "schema_as_before")


def test_it_is_due_with_another_code_version(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_assets, "MODEL_CODE_VERSION", "another")
    assert not is_current(platform)


def test_it_is_due_with_other_source_or_another_library(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    made_by = platform.head("deployment").libraries
    for name in ("bid-assets", "xgboost"):
        monkeypatch.setattr(decision_staleness, "library_versions", lambda name=name: {**made_by, name: "another"})
        assert not is_current(platform)


@pytest.mark.parametrize("asset", ["raw_bid_outcomes", "word_features", "rejected_rows", "metrics_report"])
def test_it_is_due_when_something_that_it_was_made_from_has_another_content(copy: Platform, asset: str) -> None:
    window = copy.first_run["windows"][-2] if asset != "metrics_report" else copy.window
    head = copy.head(asset, window)
    other = replace(head, content_hash="0" * 64)
    put_manifest(copy.store, other)
    assert not is_current(copy)


@pytest.mark.parametrize("asset", ["raw_bids", "model_card"])
def test_it_is_due_when_a_version_is_missing(copy: Platform, asset: str) -> None:
    copy.store.remove_head(asset, copy.window)
    assert not is_current(copy)


def test_it_is_due_when_a_file_of_it_is_damaged(copy: Platform) -> None:
    file = copy.store.fetch(copy.head("trained_model"))
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert not is_current(copy)


def test_it_is_due_when_an_earlier_window_has_a_report_for_the_card(copy: Platform) -> None:
    earlier = copy.first_run["windows"][-2]
    report = copy.head("metrics_report")
    put_manifest(copy.store, replace(report, partition=earlier))
    copy.store.set_head("metrics_report", earlier, report.version)
    assert not is_current(copy)


def test_an_open_window_is_due_once_its_cutoff_has_passed_a_row(copy: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = max(
        pc.max(copy.rows("raw_bids")["submitted_at"]).as_py(),
        pc.max(copy.rows("raw_bid_outcomes")["outcome_timestamp"]).as_py(),
    )

    def made_at(cutoff: datetime) -> None:
        put_manifest(copy.store, replace(copy.head("training_dataset"), cutoff=cutoff))

    now = Cadence.WEEKLY.window(copy.window).end - timedelta(microseconds=1)
    monkeypatch.setattr(decision_staleness, "cutoff_of", lambda window, pinned: now)
    made_at(newest + timedelta(microseconds=1))
    assert is_current(copy)
    made_at(newest)
    assert not is_current(copy)
    made_at(now + timedelta(seconds=1))  # the clock has gone back
    assert not is_current(copy)


def test_it_is_due_when_the_model_is_not_as_the_decision_has_left_it(copy: Platform) -> None:
    model = copy.head("trained_model").ref
    events.append_event(copy.store, read_history(copy.store), Event(Action.REJECTED, model, "someone", "it is odd"))
    assert not is_current(copy)


def test_it_is_due_when_the_history_does_not_have_it(copy: Platform) -> None:
    shutil.rmtree(Path(copy.store.url) / events.LOG)
    (Path(copy.store.url) / events.POINTER).unlink()
    assert not is_current(copy)


def test_a_changed_setting_decides_again(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    before = platform.head("deployment")
    monkeypatch.setenv("BID_ASSETS_MIN_ROC_AUC", "0.51")
    get_settings.cache_clear()
    [decision] = call_json("run")["cutoff_windows"]
    assert not decision["unchanged"]
    assert platform.head("deployment").version != before.version
    [decision] = call_json("run")["cutoff_windows"]
    assert decision["unchanged"]
    monkeypatch.undo()
    get_settings.cache_clear()


def test_it_is_due_when_only_a_part_of_it_was_made(platform: Platform) -> None:
    """A run that ended between dataset and decision."""
    assert make(platform, ["training_dataset"], platform.window, training_dataset={"accept": ["schema_as_before"]}).succeeded
    assert not is_current(platform)


def put_manifest(store: VersionStore, manifest: Any) -> None:
    folder = Path(store.url) / manifest.asset / manifest.partition
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{manifest.version}.manifest.json").write_bytes(manifest.to_json())
