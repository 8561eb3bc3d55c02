from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bid_assets.cli.running_loop import (
    FILE,
    LoopAlreadyRunningError,
    difference_in_words,
    exclusive_loop,
    running_loop,
    settings_of_loop,
)
from bid_assets.settings import Settings
from bid_assets_tests.platforms import call, call_json

HOLD = """
import time
from bid_assets.cli.running_loop import exclusive_loop
from bid_assets.settings import get_settings
with exclusive_loop(get_settings()):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", app_db_url="postgresql://me:hunter2@db/app?password=hunter2", lookback_windows=7)


def test_a_second_loop_in_a_home_is_refused_with_the_process_of_the_first(home: Settings) -> None:
    with exclusive_loop(home), pytest.raises(LoopAlreadyRunningError, match=rf"process {os.getpid()}, since .*BID_ASSETS_HOME"):
        exclusive_loop(home).__enter__()


def test_a_loop_in_another_home_is_not_in_the_way(home: Settings, tmp_path: Path) -> None:
    with exclusive_loop(home), exclusive_loop(Settings(home=tmp_path / "other")):
        assert running_loop(tmp_path / "other") is not None


def test_after_the_loop_was_killed_the_next_may_run(home: Settings) -> None:
    environment = {**os.environ, "BID_ASSETS_HOME": str(home.home)}
    killed = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "held\n"
    running = running_loop(home.home)
    assert running is not None
    assert running.pid == killed.pid
    killed.kill()
    killed.wait()
    assert running_loop(home.home) is None
    with exclusive_loop(home):
        pass


def test_the_settings_of_the_running_loop_are_told_without_passwords(home: Settings) -> None:
    with exclusive_loop(home):
        running = running_loop(home.home)
    assert running is not None
    assert running.settings["lookback_windows"] == 7
    assert running.settings["app_db_url"] == "postgresql://db/app"
    assert "hunter2" not in (home.home / FILE).read_text()


@pytest.mark.parametrize("url", ["postgresql:/me:hunter2@db/app", "hunter2", "postgresql://[hunter2/app"])
def test_of_a_url_that_is_none_nothing_is_told(home: Settings, url: str) -> None:
    with exclusive_loop(home.model_copy(update={"app_db_url": url})):
        assert "hunter2" not in (home.home / FILE).read_text()


def test_no_loop_runs_in_a_home_that_never_had_one(home: Settings) -> None:
    assert running_loop(home.home) is None


def test_status_reads_the_settings_of_the_running_loop_and_says_where_they_differ(settings: Settings) -> None:
    with exclusive_loop(settings.model_copy(update={"retrain_min_new_outcomes": 7, "encoder": "all-MiniLM-L6-v2"})):
        seen, differences = settings_of_loop(settings)
        as_json, in_words = call_json("status"), call("status").stdout
    assert (seen.retrain_min_new_outcomes, seen.encoder) == (7, "all-MiniLM-L6-v2")
    assert seen.app_db_url == settings.app_db_url
    assert {"variable": "BID_ASSETS_ENCODER", "loop": "all-MiniLM-L6-v2", "here": "static"} in as_json["settings_that_differ"]
    assert len(differences) == len(as_json["settings_that_differ"]) == 2
    assert "BID_ASSETS_RETRAIN_MIN_NEW_OUTCOMES=7 (here: 50)" in in_words
    assert settings_of_loop(settings) == (settings, [])


def test_a_database_that_the_loop_reads_elsewhere_is_told_and_its_login_is_not_made_up(home: Settings) -> None:
    with exclusive_loop(home.model_copy(update={"app_db_url": "postgresql://you:hunter3@other/app"})):
        seen, [difference] = settings_of_loop(home)
    assert seen.app_db_url == home.app_db_url
    assert difference_in_words(difference) == "BID_ASSETS_APP_DB_URL=postgresql://other/app (here: postgresql://db/app)"


def test_what_a_loop_of_another_version_says_is_no_obstacle(home: Settings) -> None:
    with exclusive_loop(home):
        about = json.loads((home.home / FILE).read_text())
        about["settings"] |= {"a_later_setting": 1, "cadence": "hourly"}
        (home.home / FILE).write_text(json.dumps(about))
        seen, [difference] = settings_of_loop(home)
    assert (seen, difference.loop) == (home, "hourly")
