from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from bid_assets.app_db import embedded
from bid_assets.app_db.embedded import EmbeddedServer, PostgresUnavailable, server

HOLD = """
import sys, time
from pathlib import Path
from bid_assets.app_db.embedded import server
print(server(Path(sys.argv[1]), durable=False).url("shared"), flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short folder that every user may enter; its server is stopped in the end, whatever the test did."""
    made = Path(tempfile.mkdtemp(prefix="pg-"))
    made.chmod(0o755)
    yield made / "postgres"
    if made.exists():
        EmbeddedServer(made / "postgres", durable=False).release()
        shutil.rmtree(made)


def holder(folder: Path, seconds: float = 60) -> tuple[subprocess.Popen[str], str]:
    """Another process that uses the server, and the URL that it sees."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def running(folder: Path) -> bool:
    return (folder / "data" / "postmaster.pid").exists()


def ask(url: str, query: str) -> object:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]
    finally:
        connection.close()


def test_it_starts_answers_in_utc_and_stops_with_its_last_user(folder: Path) -> None:
    used = server(folder, durable=False)
    assert ask(used.url("app"), "show timezone") == "UTC"
    used.release()
    assert not running(folder)


def test_it_listens_on_no_network_address(folder: Path) -> None:
    used = server(folder, durable=False)
    assert ask(used.url("app"), "show listen_addresses") == ""
    used.release()


def test_what_was_written_is_there_after_a_restart(folder: Path) -> None:
    first = server(folder, durable=False)
    ask(first.url("app"), "create table t as select 42 as n")
    first.release()
    second = server(folder, durable=False)
    assert ask(second.url("app"), "select n from t") == 42
    second.release()


def test_processes_share_one_server_and_the_last_one_out_stops_it(folder: Path) -> None:
    mine = server(folder, durable=False)
    other, url = holder(folder, seconds=0.1)
    assert url == mine.url("shared")
    assert other.wait() == 0
    assert ask(mine.url("shared"), "select 1") == 1
    mine.release()
    assert not running(folder)


def test_a_killed_user_does_not_keep_the_server_for_ever(folder: Path) -> None:
    other, url = holder(folder)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert ask(url, "select 1") == 1
    server(folder, durable=False).release()
    assert not running(folder)


def test_a_forked_child_does_not_stop_the_server_of_its_parent(folder: Path) -> None:
    mine = server(folder, durable=False)
    child = os.fork()
    if child == 0:
        mine.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert ask(mine.url("app"), "select 1") == 1
    mine.release()


def test_a_server_that_was_killed_is_started_again(folder: Path) -> None:
    first = server(folder, durable=True)
    ask(first.url("app"), "create table t as select 42 as n")
    os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    time.sleep(0.5)
    os.close(first._lease)  # as if this process had died with it
    first._lease = -1
    second = server(folder, durable=True)
    assert ask(second.url("app"), "select n from t") == 42
    second.release()


def test_a_path_too_long_for_a_socket_gets_a_short_folder_for_it(folder: Path) -> None:
    long = folder.parent / ("x" * 100)
    used = server(long, durable=False)
    assert ask(used.url("app"), "select 1") == 1
    assert len(str(used.sockets)) < 100
    used.release()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server(folder, durable=False).release()
    (folder / "data" / "postgresql.conf").write_text("max_connections = many\n")
    with pytest.raises(PostgresUnavailable, match="max_connections"):
        server(folder, durable=False)
    (folder / "data" / "postgresql.conf").write_text("")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
class TestAsRoot:
    def test_no_mode_of_a_parent_folder_changes(self, folder: Path) -> None:
        parents = [folder.parent, *folder.parent.parents, *embedded._binaries().parents]
        before = [parent.stat().st_mode for parent in parents]
        server(folder, durable=False).release()
        assert [parent.stat().st_mode for parent in parents] == before

    def test_below_a_closed_folder_the_data_goes_where_the_server_can_reach_it(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "SYSTEM_FOLDER", folder.parent / "system")
        tmp_path.chmod(0o700)
        used = server(tmp_path / "home", durable=False)
        assert ask(used.url("app"), "select 1") == 1
        assert used.folder.parent == folder.parent / "system"
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
        used.release()

    def test_binaries_below_a_closed_folder_are_copied_once(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hidden = tmp_path / "venv"
        package = embedded._binaries().parent.parent
        for source in (embedded._binaries().parent, package.with_name(f"{package.name}.libs")):
            shutil.copytree(source, hidden / source.relative_to(package.parent), symlinks=True)
        hidden.chmod(0o700)
        monkeypatch.setattr(embedded, "SYSTEM_FOLDER", folder.parent / "system")
        monkeypatch.setattr(embedded, "_binaries", lambda: hidden / package.name / "pginstall18" / "bin")
        used = server(folder, durable=False)
        assert ask(used.url("app"), "select 1") == 1
        assert used.binaries.is_relative_to(folder.parent / "system")
        assert stat.S_IMODE(hidden.stat().st_mode) == 0o700
        used.release()

    def test_where_there_is_no_place_the_error_names_the_closed_folder_and_the_settings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "SYSTEM_FOLDER", tmp_path / "closed" / "system")
        (tmp_path / "closed").mkdir(mode=0o700)
        with pytest.raises(PostgresUnavailable, match="BID_ASSETS_POSTGRES_DATA"):
            server(tmp_path / "closed" / "home", durable=False)
