"""A daemon that is killed between a sensor's tick and its cursor, twice at different moments, and a healthy one after it."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bid_assets.orchestration.run_history import RunKind
from bid_assets_tests.loops import HOUR, Loop, decided_again, eventually, loop_in, new_runs, sensors_have_looked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def still_loop(static_encoder: Path) -> Iterator[Loop]:
    """A platform on which nothing runs yet."""
    folder = Path(tempfile.mkdtemp(prefix="still-"))
    folder.chmod(0o755)
    with loop_in(folder, static_encoder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(("hour", "moment"), [(1, "after-the-evaluation"), (2, "before-the-cursor")])
def test_a_daemon_killed_between_tick_and_cursor_loses_nothing_and_asks_for_nothing_twice(
    still_loop: Loop, hour: int, moment: str
) -> None:
    loop, before = still_loop, still_loop.runs()
    dying = loop.start(sys.executable, "-m", "bid_assets_tests.faulty_daemon", moment)
    eventually(lambda: sensors_have_looked(loop), what="first ticks of all sensors")
    loop.decide(5, loop.end + hour * HOUR)
    eventually(lambda: dying.poll() is not None, what="the daemon's death")
    assert dying.returncode == -signal.SIGKILL
    loop.start(str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", "workspace.yaml")
    decided_again(loop, before)
    loop.stop()
    assert len(new_runs(loop, before, RunKind.REFRESH)) == 1
    assert len(new_runs(loop, before, RunKind.RETRAINING)) == 1
    assert loop.outcomes_in_the_store() == loop.outcomes_in_the_database()
