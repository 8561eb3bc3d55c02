"""`bid-assets backtest --every`, on a real platform."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets_tests.platforms import Platform, call, call_json, small_platform

COMMAND = ("backtest", "--every", "window", "--policy", "never", "--policy", "weekly", "--workers", "2")


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, static_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with small_platform(postgres, tmp_path_factory.mktemp("walk"), static_encoder) as made:
        yield made


@pytest.fixture(scope="module")
def result(platform: Platform) -> Any:
    return call_json(*COMMAND)


def test_every_window_has_a_step_and_every_policy_a_cost(result: Any) -> None:
    assert len(result["steps"]) >= 3
    assert any("estimate" in step for step in result["steps"])
    assert result["policies"]["weekly"]["trainings"] > result["policies"]["never"]["trainings"]
    assert Path(result["picture"]).read_text().count("<svg ") == 2


def test_what_is_finished_is_not_made_again_and_what_is_missing_is(platform: Platform, result: Any) -> None:
    done = sorted(Path(result["picture"]).parent.glob("*.npz"))
    before = {path: path.stat().st_mtime_ns for path in done}
    done[0].unlink()  # as if it had been killed before the last one
    started = time.monotonic()
    again = call_json(*COMMAND)
    assert {path for path in done if path.stat().st_mtime_ns != before[path]} == {done[0]}
    assert [_timeless(step) for step in again["steps"]] == [_timeless(step) for step in result["steps"]]
    assert time.monotonic() - started < 60


def test_people_get_tables_and_the_path_of_the_picture(result: Any) -> None:
    told = call(*COMMAND).output
    assert "What was to be expected of each model" in " ".join(told.split())
    assert "never" in told


def test_models_are_evaluated_on_as_many_windows_as_are_asked_for(result: Any) -> None:
    steps = call_json("backtest", "--every", "3", "--ahead", "2", "--policy", "never", "--workers", "2")["steps"]
    first = steps[0]
    assert datetime.fromisoformat(first["until"]) - datetime.fromisoformat(first["cutoff"]) == timedelta(weeks=2)
    assert first["cutoff"] == result["steps"][0]["cutoff"]
    assert first["later"] != result["steps"][0]["later"]


def test_exactly_one_of_cutoff_and_every_is_wanted() -> None:
    assert "either --cutoff MOMENT or --every window" in call("backtest", fails=2).stderr
    assert "--end goes with --cutoff" in call("backtest", "--every", "window", "--end", "2026-01-05", fails=2).stderr
    assert "not 'fortnight'" in call("backtest", "--every", "fortnight", fails=2).stderr


def _timeless(step: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != "seconds"}
