"""Deployment in manual mode, on a real platform: models wait for people, who speak in the UI's config or on the command
line."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from bid_assets.deployments.events import ModelState, read_history
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.orchestration.instance import open_instance
from bid_assets.version_store.manifest import InputRef
from bid_assets_tests.platforms import Platform, call, call_json, execute, make, new_platform

EVALUATED = ["trained_model", "feature_importances", "metrics_report", "deployment"]


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, static_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with new_platform(postgres, tmp_path_factory.mktemp("approval"), static_encoder, APPROVAL="manual") as made:
        yield made


def state(platform: Platform, model: InputRef) -> ModelState:
    return read_history(platform.store).state(model)


def shown(asset: str) -> dict[str, str]:
    """The metadata of an asset's newest materialisation."""
    with open_instance() as instance:
        [record] = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    assert record.asset_materialization is not None
    return {name: str(value.value) for name, value in record.asset_materialization.metadata.items()}


@pytest.fixture(scope="module")
def first(platform: Platform) -> InputRef:
    return platform.head("trained_model").ref


def test_a_model_that_has_passed_waits_and_its_page_says_how_to_approve_it(platform: Platform, first: InputRef) -> None:
    assert platform.first_run["active_model"] is None
    assert platform.first_run["cutoff_windows"][0]["outcome"] == "awaiting approval"
    assert state(platform, first) is ModelState.AWAITING
    assert f"bid-assets approve {first.version}" in shown("deployment")["reason"]
    assert shown("deployment")["state"] == "awaiting approval"


def test_half_a_sentence_in_the_config_changes_nothing(platform: Platform, first: InputRef) -> None:
    outcome = make(platform, ["deployment"], platform.window, deployment={"approve": first.version})
    assert "`by` (who) and `reason` (why)" in outcome.failures[0]
    assert state(platform, first) is ModelState.AWAITING


def test_it_is_approved_by_materialising_deployment_with_config(platform: Platform, first: InputRef) -> None:
    versions = platform.versions()
    config = {"approve": first.version, "by": "ada", "reason": "looked at the report"}
    assert make(platform, ["deployment"], platform.window, deployment=config).succeeded
    assert state(platform, first) is ModelState.ACTIVE
    assert shown("deployment")["state"] == "active"
    assert "looked at the report" in shown("deployment")["deployments"]
    assert platform.versions() == versions  # what a person said is an event; the loop's decision stands as it was


def test_approving_it_once_more_fails_and_says_what_it_is_now(platform: Platform, first: InputRef) -> None:
    config = {"approve": first.version, "by": "bob", "reason": "me too"}
    outcome = make(platform, ["deployment"], platform.window, deployment=config)
    assert f"{first.version} is active (approved by ada" in outcome.failures[0]


def test_a_second_model_is_compared_with_the_first_and_approved_on_the_command_line(
    platform: Platform, first: InputRef
) -> None:
    assert platform.settings.app_db_url is not None
    execute(
        platform.settings.app_db_url,
        "update bid_outcomes set is_success = not is_success where id in (select id from bid_outcomes order by id limit 5)",
    )
    [decision] = call_json("run")["cutoff_windows"]
    assert decision["outcome"] == "awaiting approval"
    assert "ROC AUC below the active model's by at most" in shown("deployment")["rules"]
    call("approve", decision["versions"]["trained_model"], "--reason", "knows more")
    told = call_json("deployments")
    assert told["traffic"]["active"]["model"]["version"] == decision["versions"]["trained_model"]
    assert {model["version"]: model["state"] for model in told["models"]}[first.version] == "retired"
    assert "knows more" in call("deployments").output


def test_a_model_of_the_same_dataset_must_be_better_beyond_doubt(platform: Platform) -> None:
    assert make(platform, EVALUATED, platform.window, trained_model={"seed": 9}).succeeded
    assert shown("deployment")["outcome"] == "rejected"
    assert "share of resamples with a lower log loss" in shown("deployment")["reason"]


def test_a_search_is_used_by_its_version_and_is_in_the_models_lineage(platform: Platform) -> None:
    assert make(platform, ["hyperparameter_search"], platform.window, hyperparameter_search={"trials": 2}).succeeded
    search = platform.head("hyperparameter_search")
    assert make(platform, EVALUATED, platform.window, trained_model={"hyperparameters": search.version}).succeeded
    model = platform.head("trained_model")
    assert search.ref in model.inputs
    best = json.loads(platform.store.fetch(search).read_bytes())["best"]
    assert best.items() <= model.info["parameters"].items()
    call("rebuild", "trained_model", "--partition", model.partition, "--version", model.version)


def test_a_search_of_a_later_window_would_look_ahead(platform: Platform) -> None:
    earlier = platform.first_run["windows"][-2]
    call("run", "--to", earlier)
    config = {"hyperparameters": platform.head("hyperparameter_search").version}
    assert "would look ahead" in make(platform, ["trained_model"], earlier, trained_model=config).failures[0]


def test_the_decision_can_be_rebuilt_though_the_history_has_gone_on(platform: Platform) -> None:
    head = platform.head("deployment")
    call("rebuild", "deployment", "--partition", head.partition, "--version", head.version)


def test_rolling_back_is_one_command_of_less_than_a_second_and_the_loop_leaves_it_so(
    platform: Platform, first: InputRef
) -> None:
    command = [sys.executable, "-m", "bid_assets.cli", "rollback", "--reason", "complaints"]
    second, seconds = platform.active_model.version, []
    for arguments in (command, [*command, "--to", second], command):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(arguments, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # of CPU: what it takes on a machine with nothing else to do
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1
    call("run")
    assert platform.active_model == first
