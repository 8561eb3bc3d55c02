"""What a person reads about models: `status`, `versions`, `deployments`, `compare`, at 100 columns, on a real platform."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bid_assets.cli.output import console
from bid_assets.common.windows import Cadence
from bid_assets.deployments.events import active_model
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.version_store.manifest import InputRef
from bid_assets_tests.platforms import RAW, Platform, call, call_json, execute, make, small_platform
from bid_assets_tests.serving.servers import serving

WIDTH = 100
EVALUATED = ["trained_model", "metrics_report", "deployment"]


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, static_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With a second model, of the same dataset and another seed, which was rejected."""
    with small_platform(postgres, tmp_path_factory.mktemp("terminal"), static_encoder) as made:
        assert make(made, EVALUATED, made.window, trained_model={"seed": 9}).succeeded
        yield made


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_width", WIDTH)


@pytest.fixture(scope="module")
def first(platform: Platform) -> InputRef:
    return platform.active_model


@pytest.fixture(scope="module")
def second(platform: Platform) -> InputRef:
    return platform.head("trained_model").ref


def short(model: InputRef) -> str:
    return model.version[-8:]


def line_about(output: str, model: InputRef) -> str:
    return next(line for line in output.splitlines() if short(model) in line)


def test_versions_shows_metrics_and_what_is_active_beside_each_model(
    platform: Platform, first: InputRef, second: InputRef
) -> None:
    told = call("versions", "trained_model").stdout
    assert max(map(len, told.splitlines())) <= WIDTH
    report = platform.store.versions("metrics_report")[0]
    assert f"{report.info['roc_auc']:.4f}" in line_about(told, first)
    assert f"{report.info['log_loss']:.4f}" in line_about(told, first)
    assert "active" in line_about(told, first)
    assert "rejected" in line_about(told, second)


def test_deployments_shows_the_same_and_why_in_a_history(platform: Platform, first: InputRef, second: InputRef) -> None:
    told = call("deployments").stdout
    assert max(map(len, told.splitlines()[:-1])) <= WIDTH
    assert "active" in line_about(told, first)
    assert "rejected" in line_about(told, second)
    assert "loop, run" in told
    assert "resamples" in told


def test_the_short_id_that_is_shown_is_accepted_wherever_a_version_is(platform: Platform, first: InputRef) -> None:
    assert call_json("lineage", "trained_model", "--version", short(first))["version"] == first.version
    assert call_json("rebuild", "trained_model", "--partition", first.partition, "--version", short(first))["same"]
    assert Path(call("report", short(first)).output.strip()).exists()
    call("deployments", "shadow", short(first), "--reason", "to see", fails=1)  # refused for what it is, not as unknown
    assert "is the active model already" in call("deployments", "shadow", short(first), "--reason", "x", fails=1).stderr


def test_compare_shows_metrics_and_what_differs(platform: Platform, first: InputRef, second: InputRef) -> None:
    told = call_json("compare", short(first), second.version)
    assert told["differences"]["parameters"] == {"seed": [0, 9]}
    assert "dataset" not in told["differences"]
    assert told["a"]["metrics"]["roc_auc"] == pytest.approx(platform.store.versions("metrics_report")[0].info["roc_auc"])
    page = call("compare", short(first), short(second)).stdout
    assert max(map(len, page.splitlines())) <= WIDTH
    assert "seed" in page
    assert "Both were evaluated on the same holdout." in page


def test_status_says_that_the_newest_model_was_rejected_and_why(platform: Platform, second: InputRef) -> None:
    told = call_json("status")
    assert told["newest_model"]["model"] == second.version
    assert told["newest_model"]["state"] == "rejected"
    page = " ".join(call("status").stdout.split())
    reason = " ".join(told["newest_model"]["reason"].split())
    assert "active model" in reason
    assert f"Newest model: {second.version} of window {second.partition}, rejected: {reason}" in page
    assert f"`bid-assets approve {second.version} --override`" in page


def test_a_rejected_model_is_activated_by_override_and_status_says_what_the_service_serves(
    platform: Platform, first: InputRef, second: InputRef
) -> None:
    assert "No prediction service runs in this home" in call("status").stdout
    with serving(platform) as service:
        [told] = call_json("status")["services"]
        assert (told["url"], told["model_version"]) == (service.url, first.version)
        call("approve", short(second), "--override", "--reason", "the slice is no market of ours any more")
        service.wait_until_serving(second.version)
        assert f"Prediction service at {service.url} serves {second.version}" in call("status").stdout
    assert call_json("status")["services"] == []
    assert "approved against" in call("deployments").stdout
    call("run")  # the loop leaves it so
    active = active_model(platform.store)
    assert active is not None
    assert active.model == second


def test_status_counts_what_waits_as_the_policy_does(platform: Platform) -> None:
    assert call_json("status")["policy"]["reason"].startswith("no outcome is new since the last dataset")
    assert "Outcomes that are in no dataset yet: 0" in call("status").stdout
    assert platform.settings.app_db_url is not None
    when = Cadence.WEEKLY.window(platform.window).end - timedelta(seconds=1)
    execute(
        platform.settings.app_db_url,
        f"insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) select 'new-' || id, bid_id, true, '{when}' "
        f"from bid_outcomes where outcome_timestamp < '{when}' order by outcome_timestamp desc limit 3",
    )
    assert make(platform, list(RAW), platform.window).succeeded
    told = call_json("status")
    assert told["outcomes"]["waiting"] == 3
    assert told["policy"]["reason"].startswith("3 new outcomes since the last dataset")
    assert "Outcomes that are in no dataset yet: 3" in call("status").stdout
