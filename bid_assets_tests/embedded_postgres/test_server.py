from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg2
import pytest

from bid_assets.embedded_postgres import paths, postmaster, server, watchdog
from bid_assets.embedded_postgres.server import EmbeddedServer, PostgresUnavailableError, shared_server
from bid_assets_tests.conftest import CHECKOUT

HOLD = """
import sys, time
from pathlib import Path
from bid_assets.embedded_postgres.server import shared_server
print(shared_server(Path(sys.argv[1]), durable=False).url("shared"), flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short folder that every user may enter; its server is stopped in the end, whatever the test did."""
    made = Path(tempfile.mkdtemp(prefix="pg-"))
    made.chmod(0o755)
    yield made / "postgres"
    if running(made / "postgres"):
        EmbeddedServer(made / "postgres", durable=False).release()
    shutil.rmtree(made, ignore_errors=True)


def holder(folder: Path, seconds: float = 60, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """Another process that uses the server, and the URL that it sees."""
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def running(folder: Path) -> bool:
    return (folder / "data" / "postmaster.pid").exists()


def kill_server(folder: Path) -> None:
    postmaster, *children = processes(folder)
    postmaster.kill()
    psutil.wait_procs(children, timeout=10)


def processes(folder: Path) -> list[psutil.Process]:
    """The server and its processes."""
    postmaster = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
    return [postmaster, *postmaster.children()]


def watchers(folder: Path) -> list[psutil.Process]:
    found = [process for process in psutil.process_iter(["cmdline"]) if watchdog.__name__ in (process.info["cmdline"] or [])]
    return [process for process in found if str(folder) in process.info["cmdline"]]


def eventually_stopped(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while running(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
    used = shared_server(folder, durable=False)
    assert ask(used.url("app"), "show timezone") == "UTC"
    used.release()
    assert not running(folder)


def test_it_listens_on_no_network_address(folder: Path) -> None:
    used = shared_server(folder, durable=False)
    assert ask(used.url("app"), "show listen_addresses") == ""
    used.release()


def test_what_was_written_is_there_after_a_restart(folder: Path) -> None:
    first = shared_server(folder, durable=False)
    ask(first.url("app"), "create table t as select 42 as n")
    first.release()
    second = shared_server(folder, durable=False)
    assert ask(second.url("app"), "select n from t") == 42
    second.release()


def test_processes_share_one_server_and_the_last_one_out_stops_it(folder: Path) -> None:
    mine = shared_server(folder, durable=False)
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
    shared_server(folder, durable=False).release()
    assert not running(folder)


def test_the_server_ends_after_its_last_user_was_killed(folder: Path) -> None:
    first, _ = holder(folder)
    second, url = holder(folder)
    first.kill()
    first.wait()
    time.sleep(2 * watchdog.POLL_SECONDS)
    assert ask(url, "select 1") == 1
    second.kill()
    second.wait()
    eventually_stopped(folder)


def test_a_forked_child_keeps_no_server_for_its_killed_parent(folder: Path) -> None:
    fork = "\nimport os\nos.write(1, f'{os.fork()}\\n'.encode()); time.sleep(60)"  # one write, which nothing can divide
    program = HOLD + fork
    parent = subprocess.Popen([sys.executable, "-c", program, str(folder), "0"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    child = psutil.Process(max(int(parent.stdout.readline()), int(parent.stdout.readline())))
    parent.kill()
    parent.wait()
    eventually_stopped(folder)
    child.kill()


def test_one_process_watches_a_server_and_it_is_replaced_when_it_was_killed(folder: Path) -> None:
    used = shared_server(folder, durable=False)
    [watcher] = watchers(folder)
    shared_server(folder).ensure_running()
    assert watchers(folder) == [watcher]
    watcher.kill()
    watcher.wait(10)
    shared_server(folder).ensure_running()
    [other] = watchers(folder)
    used.release()
    psutil.wait_procs([other], timeout=10)
    assert watchers(folder) == []


def test_the_last_one_out_of_a_halted_server_stops_it(folder: Path) -> None:
    used = shared_server(folder, durable=False)
    for process in processes(folder):
        process.suspend()
    used.release()
    assert not running(folder)


def test_a_halted_server_does_not_answer_and_is_restarted_with_what_was_committed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "QUERY_TIMEOUT_SECONDS", 2)
    used = shared_server(folder, durable=False)
    ask(used.url("app"), "create table t as select 42 as n")
    assert used.is_responding()
    for process in processes(folder):
        process.suspend()
    assert not used.is_responding()
    used.restart()
    assert used.is_responding()
    assert ask(used.url("app"), "select n from t") == 42
    used.release()


def test_a_server_that_gives_a_reason_why_it_takes_no_connection_answers(folder: Path) -> None:
    used = shared_server(folder, durable=False)
    ask(used.url("app"), "alter database postgres allow_connections false")
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(used.url("postgres"))
    assert used.is_responding()
    used.release()


def test_a_process_that_halts_while_it_starts_a_server_is_not_waited_for_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = shared_server(folder, durable=False)
    with (folder / server.START_LOCK_FILE).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(server, "TIMEOUT_SECONDS", 0.1)
        with pytest.raises(PostgresUnavailableError, match="starting or stopping"):
            used.ensure_running()
    monkeypatch.undo()
    used.release()


def test_a_user_killed_while_it_made_the_data_folder_leaves_nothing_half_made(folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), "60"], stdout=subprocess.DEVNULL)
    while not list(folder.glob("new-*/PG_VERSION")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    used = shared_server(folder, durable=False)
    assert ask(used.url("app"), "select 1") == 1
    assert not list(folder.glob("new-*"))
    used.release()


def test_a_forked_child_does_not_stop_the_server_of_its_parent(folder: Path) -> None:
    mine = shared_server(folder, durable=False)
    child = os.fork()
    if child == 0:
        mine.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert ask(mine.url("app"), "select 1") == 1
    mine.release()


def test_a_forked_child_that_outlives_its_parents_lease_stands_in_nobodys_way(folder: Path) -> None:
    mine = shared_server(folder, durable=False)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    mine.release()
    other, url = holder(folder, seconds=0)
    assert url
    assert other.wait(30) == 0
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_server_that_was_killed_is_started_again_and_has_what_was_committed(folder: Path) -> None:
    used = shared_server(folder, durable=True)
    ask(used.url("app"), "create table t as select 42 as n")
    kill_server(folder)
    assert ask(shared_server(folder).url("app"), "select n from t") == 42
    used.release()


def test_the_last_one_out_of_a_killed_server_leaves_quietly(folder: Path) -> None:
    used = shared_server(folder, durable=False)
    kill_server(folder)
    used.release()
    assert not running(folder)


def test_notes_of_a_dead_server_whose_number_is_now_a_strangers_are_no_server(folder: Path) -> None:
    shared_server(folder, durable=False).release()
    user = folder.joinpath("data").stat().st_uid
    stranger = subprocess.Popen(["sleep", "60"], user=user)
    (folder / "data" / "postmaster.pid").write_text(
        f"{stranger.pid}\n{folder / 'data'}\n1\n5432\n{folder / 'data'}\n\n 1 1\nready\n"
    )
    used = shared_server(folder, durable=False)
    assert ask(used.url("app"), "select 1") == 1
    assert stranger.poll() is None
    used.release()
    stranger.kill()
    stranger.wait()


def test_processes_with_other_variables_of_postgresql_share_it_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, url = holder(folder, PGPORT="5999", PGDATA="/nowhere", PGHOST="nowhere")
    monkeypatch.delenv("PGPORT", raising=False)
    mine = shared_server(folder, durable=False)
    assert mine.url("shared") == url
    assert ask(url, "select 1") == 1
    other.kill()
    other.wait()
    mine.release()


def test_the_servers_processes_know_none_of_our_settings(folder: Path) -> None:
    other, _ = holder(folder, BID_ASSETS_APP_DB_URL="postgresql://me:hunter2@db/app")
    for process in (*processes(folder), *watchers(folder)):
        with suppress(psutil.NoSuchProcess):  # a worker of PostgreSQL that came to its end just then
            assert not any(name.startswith("BID_ASSETS_") for name in process.environ())
    other.kill()
    other.wait()
    eventually_stopped(folder)


def test_a_path_that_suits_no_socket_gets_a_short_folder_for_it_which_goes_with_the_server(folder: Path) -> None:
    other, url = holder(folder.parent / ("it's 5% of a, b 語" * 5), TMPDIR=str(folder.parent))
    used = shared_server(folder.parent / ("it's 5% of a, b 語" * 5), durable=False)
    assert used.url("shared") == url
    assert ask(url, "select 1") == 1
    other.kill()
    other.wait()
    used.release()
    assert not used.sockets.exists()


def test_a_path_that_a_shell_would_read_is_refused(folder: Path) -> None:
    with pytest.raises(PostgresUnavailableError, match="BID_ASSETS_POSTGRES_DATA"):
        shared_server(folder / "$(id)")


def test_a_folder_with_other_files_in_it_is_left_alone(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "letter.txt").write_text("dear")
    with pytest.raises(PostgresUnavailableError, match="not PostgreSQL's"):
        shared_server(folder, durable=False)
    assert [path.name for path in (folder / "data").iterdir()] == ["letter.txt"]
    (folder / "data" / "letter.txt").unlink()


def test_a_log_that_has_become_large_is_put_aside_at_the_next_start_and_a_small_one_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restarted() -> tuple[str, str]:
        """The log and the one put aside, once the server has been started again."""
        shared_server(folder, durable=False).release()
        log, aside = folder / "data" / "server.log", folder / "data" / "server.log.1"
        return log.read_text(), aside.read_text() if aside.exists() else ""

    first, _ = restarted()
    second, nothing = restarted()
    assert second.startswith(first)
    assert nothing == ""
    monkeypatch.setattr(postmaster, "LOG_BYTES", len(second) - 1)
    third, aside = restarted()
    assert aside == second
    assert 0 < len(third) < len(second)
    assert restarted()[0].startswith(third)


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    shared_server(folder, durable=False).release()
    (folder / "data" / "postgresql.conf").write_text("max_connections = many\n")
    with pytest.raises(PostgresUnavailableError, match="max_connections"):
        shared_server(folder, durable=False)
    (folder / "data" / "postgresql.conf").write_text("")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
class TestAsRoot:
    @pytest.fixture(autouse=True)
    def system(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder that stands for /var/lib/bid_assets."""
        monkeypatch.setattr(paths, "SYSTEM_DIR", folder.parent / "system")
        return folder.parent / "system"

    def test_no_mode_of_a_parent_folder_changes(self, folder: Path) -> None:
        parents = [folder.parent, *folder.parent.parents, *paths.bin_dir().parents]
        before = [parent.stat().st_mode for parent in parents]
        shared_server(folder, durable=False).release()
        assert [parent.stat().st_mode for parent in parents] == before

    def test_a_strict_umask_is_no_obstacle(self, folder: Path) -> None:
        before = os.umask(0o077)
        try:
            used = shared_server(folder / "new" / "postgres", durable=False)
        finally:
            os.umask(before)
        assert ask(used.url("app"), "select 1") == 1
        assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o710
        assert (folder / "new").stat().st_gid == used.data.stat().st_gid
        used.release()

    def test_below_a_closed_folder_the_data_goes_where_the_server_can_reach_it_and_stays_there(
        self, tmp_path: Path, system: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        tmp_path.chmod(0o700)
        used = shared_server(tmp_path / "home", durable=False)
        ask(used.url("app"), "create table t as select 42 as n")
        assert used.folder.parent == system
        assert str(used.folder) in caplog.text
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
        used.release()
        open_place = Path(tempfile.mkdtemp(prefix="pg-"))
        open_place.chmod(0o755)
        used.folder.rename(system / paths.fallback_data_dir(open_place / "home").name)  # as if its parents had been closed once
        again = shared_server(open_place / "home", durable=False)
        assert ask(again.url("app"), "select n from t") == 42
        again.release()
        shutil.rmtree(open_place)

    def test_through_our_own_home_the_servers_user_may_pass_and_nobody_else(self, folder: Path) -> None:
        home = folder.parent / "home"
        home.mkdir(mode=0o700)
        for _ in range(2):
            used = EmbeddedServer(home / "postgres", durable=False, home=home)
            assert ask(used.url("app"), "select 1") == 1
            assert used.folder == home / "postgres"
            used.release()
            home.chmod(0o700)  # as a careful person would

    def test_data_that_its_owner_may_not_reach_any_more_is_not_passed_over(self, folder: Path) -> None:
        shared_server(folder / "postgres", durable=False).release()
        folder.chmod(0o700)
        with pytest.raises(PostgresUnavailableError, match=f"may not enter {folder}"):
            shared_server(folder / "postgres", durable=False)

    def test_programs_below_a_closed_folder_are_copied_once(
        self, tmp_path: Path, folder: Path, system: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hidden = tmp_path / "venv"
        package = paths.bin_dir().parent.parent
        for source in (paths.bin_dir().parent, package.with_name(f"{package.name}.libs")):
            shutil.copytree(source, hidden / source.relative_to(package.parent), symlinks=True)
        hidden.chmod(0o700)
        monkeypatch.setattr(paths, "bin_dir", lambda: hidden / package.name / "pginstall18" / "bin")
        for _ in range(2):
            used = shared_server(folder, durable=False)
            assert ask(used.url("app"), "select 1") == 1
            assert used.bin_dir.is_relative_to(system)
            used.release()
        assert len(list(system.iterdir())) == 1
        assert stat.S_IMODE(hidden.stat().st_mode) == 0o700

    def test_the_data_of_somebody_stay_theirs(self, folder: Path) -> None:
        shared_server(folder, durable=False).release()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        (folder.parent / "closed").mkdir(mode=0o700)
        os.chown(folder.parent / "closed", 65534, 65534)
        theirs = folder.rename(folder.parent / "closed" / "postgres")
        used = shared_server(theirs, durable=False)
        assert ask(used.url("app"), "select 1") == 1
        assert used.folder == theirs
        assert {path.stat().st_uid for path in used.data.rglob("*")} == {65534}
        used.release()

    @pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv to become another user")
    def test_without_root_it_runs_as_whoever_calls(self, folder: Path) -> None:
        os.chown(folder.parent, 65534, 65534)
        folder.parent.chmod(0o700)
        rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # to read the interpreter below /root
        become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *rights]
        done = subprocess.run(
            [*become, sys.executable, "-c", HOLD, str(folder), "0"], cwd=CHECKOUT, capture_output=True, text=True
        )
        assert done.stdout.strip() == f"postgresql://postgres@/shared?host={folder / 'data'}&port=5432", done.stderr
        assert (folder / "data").stat().st_uid == 65534
        assert not running(folder)

    def test_where_there_is_no_place_the_error_names_the_closed_folder_and_the_settings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "closed").mkdir(mode=0o700)
        monkeypatch.setattr(paths, "SYSTEM_DIR", tmp_path / "closed" / "system")
        with pytest.raises(PostgresUnavailableError, match=r"may not enter .*BID_ASSETS_POSTGRES_DATA"):
            shared_server(tmp_path / "closed" / "home", durable=False)
