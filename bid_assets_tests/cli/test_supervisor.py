from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bid_assets.cli import supervisor as module
from bid_assets.cli.supervisor import ManagedProcess, ProcessFailedError, Supervisor, rotating_log, terminate_leftovers

SLEEP = [sys.executable, "-c", "import time; print('here I am', flush=True); time.sleep(60)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)']); print(child.pid, flush=True); "
    f"time.sleep(60)",
]
"""It prints the process id of its child."""
DIE = [sys.executable, "-c", "print('no luck', flush=True); raise SystemExit(7)"]


class RecordedOutput:
    """What a supervisor has passed on and reported."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.reports: list[tuple[str, str]] = []

    def supervise(self, *processes: ManagedProcess) -> Supervisor:
        on_output = lambda name, line: self.lines.append((name, line))  # noqa: E731
        report = lambda name, line: self.reports.append((name, line))  # noqa: E731
        return Supervisor(processes, os.environ, Path.cwd(), on_output, report)


@pytest.fixture
def output() -> RecordedOutput:
    return RecordedOutput()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RESTART_DELAY", 0.0)


def until(done: Callable[[], object], supervisor: Supervisor | None = None) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        if supervisor is not None:
            supervisor.restart_dead()
        time.sleep(0.02)


def test_the_output_of_a_process_is_passed_on_with_its_name(output: RecordedOutput) -> None:
    supervisor = output.supervise(ManagedProcess("sleeper", SLEEP))
    supervisor.start()
    until(lambda: ("sleeper", "here I am") in output.lines)
    supervisor.stop()


def test_a_process_that_was_killed_is_started_again_and_that_is_reported(output: RecordedOutput) -> None:
    process = ManagedProcess("sleeper", SLEEP)
    supervisor = output.supervise(process)
    supervisor.start()
    assert process.popen is not None
    first = process.popen.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: process.popen is not None and process.popen.pid != first, supervisor)
    assert output.reports == [("sleeper", "was killed by SIGKILL; it is started again in 0 s")]
    supervisor.stop()


def test_a_process_that_dies_again_and_again_is_given_up_with_its_last_output(output: RecordedOutput) -> None:
    supervisor = output.supervise(ManagedProcess("unlucky", DIE))
    supervisor.start()
    with pytest.raises(ProcessFailedError, match=r"unlucky ended with exit code 7, 5 times in a row(.|\n)*no luck"):
        until(lambda: False, supervisor)
    supervisor.stop()


def test_a_process_that_has_answered_once_is_never_given_up(output: RecordedOutput, tmp_path: Path) -> None:
    briefly = [sys.executable, "-c", f"import time; open({str(tmp_path / 'well')!r}, 'w'); time.sleep(0.3)"]
    process = ManagedProcess("unlucky", briefly, health_check=(tmp_path / "well").exists)
    supervisor = output.supervise(process)
    supervisor.start()
    until(lambda: process.exits > module.MAX_FAILED_STARTS, supervisor)
    supervisor.stop()


def test_a_process_that_does_not_answer_several_times_in_a_row_is_restarted(
    output: RecordedOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_INTERVAL", 0.05)
    answers = iter([True, False, True, False, False, False])
    process = ManagedProcess("mute", SLEEP, health_check=lambda: next(answers, True))
    supervisor = output.supervise(process)
    supervisor.start()
    assert process.popen is not None
    first = process.popen.pid
    until(lambda: process.popen is not None and process.popen.pid != first, supervisor)
    assert output.reports[0] == ("mute", "has failed 3 health checks in a row; it is restarted")
    assert next(answers, None) is None
    supervisor.stop()


def test_a_health_check_that_never_ends_holds_up_no_other_and_has_failed(
    output: RecordedOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_INTERVAL", 0.05)
    monkeypatch.setattr(module, "PROBE_TIMEOUT", 0.2)
    probes = iter([lambda: True])
    process = ManagedProcess("deaf", SLEEP, health_check=lambda: next(probes, lambda: time.sleep(10) or True)())
    supervisor = output.supervise(process)
    supervisor.start()
    begin = time.monotonic()
    supervisor.restart_dead()
    until(lambda: output.reports, supervisor)
    assert time.monotonic() - begin < 5
    supervisor.stop()


def test_a_process_that_is_just_starting_need_not_answer_yet(output: RecordedOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PROBE_INTERVAL", 0.01)
    probes: list[float] = []
    process = ManagedProcess("slow", SLEEP, health_check=lambda: probes.append(0) is not None)
    supervisor = output.supervise(process)
    supervisor.start()
    until(lambda: len(probes) > 10, supervisor)
    assert output.reports == []
    monkeypatch.setattr(module, "STARTUP_TIMEOUT", 0)
    until(lambda: output.reports, supervisor)
    supervisor.stop()


def test_a_halted_process_that_does_not_answer_is_restarted_with_its_children(
    output: RecordedOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_INTERVAL", 0.05)
    process = ManagedProcess("parent", PARENT)
    supervisor = output.supervise(process)
    supervisor.start()
    until(lambda: output.lines)
    assert process.popen is not None
    family = [psutil.Process(process.popen.pid), psutil.Process(int(output.lines[0][1]))]
    process.health_check = lambda: family[0].status() != psutil.STATUS_STOPPED
    until(lambda: process.healthy, supervisor)
    for process in family:
        process.suspend()
    until(lambda: len(output.lines) > 1, supervisor)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
    supervisor.stop()


def test_the_children_of_a_killed_process_end_with_it(output: RecordedOutput) -> None:
    process = ManagedProcess("parent", PARENT)
    supervisor = output.supervise(process)
    supervisor.start()
    until(lambda: output.lines)
    child = psutil.Process(int(output.lines[0][1]))
    assert process.popen is not None
    process.popen.kill()
    until(lambda: len(output.lines) > 1, supervisor)
    child.wait(10)
    supervisor.stop()


def test_halted_processes_are_stopped_at_once_and_with_their_children(output: RecordedOutput) -> None:
    process = ManagedProcess("parent", PARENT)
    supervisor = output.supervise(process)
    supervisor.start()
    until(lambda: output.lines)
    child = psutil.Process(int(output.lines[0][1]))
    assert process.popen is not None
    for number in (child.pid, process.popen.pid):
        os.kill(number, signal.SIGSTOP)
    begin = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - begin < module.STOP_TIMEOUT
    child.wait(10)
    assert output.reports == []


def test_what_an_earlier_supervisor_left_behind_is_ended_and_nothing_else(tmp_path: Path) -> None:
    left, other = (
        subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL, env={**os.environ, module.SUPERVISED_HOME: str(home)})
        for home in (tmp_path, tmp_path / "other")
    )
    left.send_signal(signal.SIGSTOP)
    [line] = terminate_leftovers(tmp_path)
    assert "time.sleep(60)" in line
    assert not psutil.pid_exists(left.pid)
    left.wait(10)
    assert other.poll() is None
    other.kill()
    other.wait()


def test_the_next_process_starts_when_the_one_before_is_ready(output: RecordedOutput, tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    first = ManagedProcess(
        "first", [sys.executable, "-c", f"open({str(flag)!r}, 'w'); import time; time.sleep(60)"], flag.exists
    )
    second = ManagedProcess("second", [sys.executable, "-c", f"import os; print(os.path.exists({str(flag)!r}), flush=True)"])
    supervisor = output.supervise(first, second)
    supervisor.start()
    until(lambda: ("second", "True") in output.lines)
    supervisor.stop()


def test_stopping_ends_all_processes_and_kills_the_deaf(output: RecordedOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    processes = [ManagedProcess("sleeper", SLEEP), ManagedProcess("deaf", [sys.executable, "-c", deaf])]
    supervisor = output.supervise(*processes)
    supervisor.start()
    until(lambda: len(output.lines) == 2)
    popens = [process.popen for process in processes if process.popen is not None]
    supervisor.stop()
    assert [popen.wait(5) for popen in popens] == [-signal.SIGTERM, -signal.SIGKILL]
    assert output.reports == [("deaf", "did not stop within 0 s and was killed")]


def test_no_process_outlives_a_supervisor_that_is_killed() -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from bid_assets.cli.supervisor import ManagedProcess, Supervisor\n"
        f"process = ManagedProcess('sleeper', {SLEEP!r})\n"
        "Supervisor([process], os.environ, Path.cwd(), lambda *_: None, lambda *_: None).start()\n"
        "print(process.popen.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    child.wait(10)
    assert not child.is_running()


def test_the_log_keeps_a_bounded_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOG_BYTES", 1000)
    log = rotating_log(tmp_path / "logs" / "up.log")
    for number in range(100):
        log.info("[process] line %s, and so on", number)
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["up.log", "up.log.1", "up.log.2", "up.log.3"]
    assert "line 99" in (tmp_path / "logs" / "up.log").read_text()
