from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bid_assets.common.private_state import ensure_private_home
from bid_assets_tests.conftest import CHECKOUT


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_its_owners_alone(tmp_path: Path) -> None:
    assert mode(ensure_private_home(tmp_path / "new" / "home")) == 0o700


def test_a_home_that_was_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    assert mode(ensure_private_home(tmp_path / "home")) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders away")
def test_a_home_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    os.chown(tmp_path / "home", 65534, 65534)
    assert mode(ensure_private_home(tmp_path / "home")) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_a_home_with_data_of_the_servers_user_stays_open_to_that_users_group_only(tmp_path: Path) -> None:
    data = tmp_path / "home" / "postgres" / "data"
    data.mkdir(mode=0o755, parents=True)
    os.chown(data, 4242, 4242)
    home = ensure_private_home(tmp_path / "home")
    assert (mode(home), home.stat().st_gid) == (0o710, 4242)


def test_what_a_command_writes_is_private_whatever_the_umask(tmp_path: Path) -> None:
    environment = {**os.environ, "BID_ASSETS_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "bid_assets.cli", "keys", "create", "autobidder"]
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, capture_output=True)
    assert {mode(path) & 0o077 for path in (tmp_path / "home", *(tmp_path / "home").rglob("*"))} == {0}
