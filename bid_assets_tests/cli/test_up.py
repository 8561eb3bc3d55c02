"""`bid-assets up` in an empty home: parts that die, hang or lose their child come back, and nothing outlives it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bid_assets.common.windows import utc_now
from bid_assets.embedded_postgres.server import shared_server as embedded_server
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.liveness import code_is_loaded, service_answers
from bid_assets.settings import get_settings
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.loops import Loop, eventually, free_port
from bid_assets_tests.platforms import call

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CODE = ("dagster", "api", "grpc")


@pytest.fixture(scope="module")
def loop(static_encoder: Path) -> Iterator[Loop]:
    folder = Path(tempfile.mkdtemp(prefix="up-"))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    (home / "encoders").symlink_to(static_encoder.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BID_ASSETS_HOME", str(home))
        patch.setenv("DAGSTER_HOME", str(CHECKOUT))
        patch.setenv("BID_ASSETS_ENCODER", "static")
        get_settings.cache_clear()
        with open_instance() as instance:
            made = Loop(get_settings(), instance, utc_now(), port=free_port(), service_port=free_port())
            before = os.umask(0)  # as open as a shell can be
            made.start(
                *(sys.executable, "-m", "bid_assets_tests.impatient_up"),
                *("--port", str(made.port), "--service-port", str(made.service_port)),
            )
            os.umask(before)
            try:
                eventually(lambda: works(made), what="answers of all parts")
                yield made
            finally:
                made.stop()
        get_settings.cache_clear()
    shutil.rmtree(folder, ignore_errors=True)


def works(loop: Loop) -> bool:
    try:
        return code_is_loaded(f"127.0.0.1:{loop.port}") and service_answers(f"127.0.0.1:{loop.service_port}")
    except OSError:
        return False


def part(loop: Loop, *words: str) -> psutil.Process:
    return eventually(lambda: loop.child(*words), what=" ".join(words))


def test_all_state_is_private_whatever_the_umask(loop: Loop) -> None:
    home = loop.settings.home
    open_to_others = {
        str(path.relative_to(home)): mode
        for path in (home, *home.rglob("*"))
        if not path.is_symlink() and path.name != "test-processes.log" and (mode := stat.S_IMODE(path.stat().st_mode) & 0o077)
    }
    # As root PostgreSQL runs as another user: its group may pass through two folders, and list neither.
    assert open_to_others == ({".": 0o010, "postgres": 0o010} if os.geteuid() == 0 else {})
    code = part(loop, *CODE).cmdline()
    assert stat.S_IMODE(Path(code[code.index("--socket") + 1]).stat().st_mode) & 0o077 == 0


def test_code_server_whose_child_was_killed_and_halted_parts_come_back(loop: Loop) -> None:
    killed = part(loop, *CODE)
    halted = [part(loop, "bid_assets.orchestration.web_server"), part(loop, "bid-assets", "serve")]
    killed.kill()
    for process in halted:
        process.suspend()
    eventually(lambda: not any(process.is_running() for process in halted), what="the end of the halted parts")
    eventually(lambda: works(loop), what="answers of all parts")
    assert part(loop, *CODE) != killed


def test_a_second_one_in_the_same_home_is_refused_whatever_the_ports(loop: Loop) -> None:
    refused = call("up", "--port", str(free_port()), "--service-port", str(free_port()), fails=1)
    assert f"runs already in {loop.settings.home} (process {loop.processes[0].pid}" in refused.output


def test_when_all_of_it_was_killed_postgresql_ends_too_once_nobody_uses_it(loop: Loop) -> None:
    up = loop.processes[0]
    server = psutil.Process(int((loop.settings.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))
    everything = [psutil.Process(up.pid), *psutil.Process(up.pid).children(recursive=True)]
    for process in everything:
        process.suspend()
    for process in everything:
        process.kill()
    psutil.wait_procs(everything, timeout=30)
    assert server.is_running()  # this process uses it
    embedded_server(loop.settings.home / "postgres").abandon()  # as the kernel does with the lease of a killed process
    server.wait(30)
