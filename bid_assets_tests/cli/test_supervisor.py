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
from bid_assets.cli.supervisor import Part, ProcessFailedError, Supervisor, end_leftovers, rotating_log

SLEEP = [sys.executable, "-c", "import time; print('here I am', flush=True); time.sleep(60)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    f"child = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)']); print(child.pid, flush=True); time.sleep(60)",
]
"""It says the process id of its child."""
DIE = [sys.executable, "-c", "print('no luck', flush=True); raise SystemExit(7)"]


class Ears:
    """What the supervisor heard and reported."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.reports: list[tuple[str, str]] = []

    def watching(self, *parts: Part) -> Supervisor:
        heard = lambda name, line: self.lines.append((name, line))  # noqa: E731
        report = lambda name, line: self.reports.append((name, line))  # noqa: E731
        return Supervisor(parts, os.environ, Path.cwd(), heard, report)


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.0)


def until(done: Callable[[], object], watched: Supervisor | None = None) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        if watched is not None:
            watched.look_after()
        time.sleep(0.02)


def test_what_a_part_says_is_passed_on_with_its_name(ears: Ears) -> None:
    watched = ears.watching(Part("sleeper", SLEEP))
    watched.start()
    until(lambda: ("sleeper", "here I am") in ears.lines)
    watched.stop()


def test_a_part_that_was_killed_is_started_again_and_that_is_reported(ears: Ears) -> None:
    part = Part("sleeper", SLEEP)
    watched = ears.watching(part)
    watched.start()
    assert part.process is not None
    first = part.process.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: part.process is not None and part.process.pid != first, watched)
    assert ears.reports == [("sleeper", "was killed by SIGKILL; it is started again in 0 s")]
    watched.stop()


def test_a_part_that_dies_again_and_again_is_given_up_with_its_last_words(ears: Ears) -> None:
    watched = ears.watching(Part("unlucky", DIE))
    watched.start()
    with pytest.raises(ProcessFailedError, match=r"unlucky ended with exit code 7, 5 times in a row(.|\n)*no luck"):
        until(lambda: False, watched)
    watched.stop()


def test_a_part_that_has_answered_once_is_never_given_up(ears: Ears, tmp_path: Path) -> None:
    briefly = [sys.executable, "-c", f"import time; open({str(tmp_path / 'well')!r}, 'w'); time.sleep(0.3)"]
    part = Part("unlucky", briefly, answers=(tmp_path / "well").exists)
    watched = ears.watching(part)
    watched.start()
    until(lambda: part.deaths > module.TOO_MANY, watched)
    watched.stop()


def test_a_part_that_does_not_answer_several_times_in_a_row_is_restarted(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)
    answers = iter([True, False, True, False, False, False])
    part = Part("mute", SLEEP, answers=lambda: next(answers, True))
    watched = ears.watching(part)
    watched.start()
    assert part.process is not None
    first = part.process.pid
    until(lambda: part.process is not None and part.process.pid != first, watched)
    assert ears.reports[0] == ("mute", "has left 3 questions in a row unanswered; it is restarted")
    assert next(answers, None) is None
    watched.stop()


def test_a_question_that_never_ends_holds_up_nobody_and_counts_as_unanswered(
    ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(module, "PROBE_DEADLINE", 0.2)
    asked = iter([lambda: True])
    part = Part("deaf", SLEEP, answers=lambda: next(asked, lambda: time.sleep(10) or True)())
    watched = ears.watching(part)
    watched.start()
    begin = time.monotonic()
    watched.look_after()
    until(lambda: ears.reports, watched)
    assert time.monotonic() - begin < 5
    watched.stop()


def test_a_part_that_is_just_starting_need_not_answer_yet(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PROBE_SECONDS", 0.01)
    asked: list[float] = []
    part = Part("slow", SLEEP, answers=lambda: asked.append(0) is not None)
    watched = ears.watching(part)
    watched.start()
    until(lambda: len(asked) > 10, watched)
    assert ears.reports == []
    monkeypatch.setattr(module, "FIRST_ANSWER_PATIENCE", 0)
    until(lambda: ears.reports, watched)
    watched.stop()


def test_a_halted_part_that_does_not_answer_is_restarted_with_its_children(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.05)
    part = Part("parent", PARENT)
    watched = ears.watching(part)
    watched.start()
    until(lambda: ears.lines)
    assert part.process is not None
    family = [psutil.Process(part.process.pid), psutil.Process(int(ears.lines[0][1]))]
    part.answers = lambda: family[0].status() != psutil.STATUS_STOPPED
    until(lambda: part.answered, watched)
    for process in family:
        process.suspend()
    until(lambda: len(ears.lines) > 1, watched)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
    watched.stop()


def test_the_children_of_a_killed_part_end_with_it(ears: Ears) -> None:
    part = Part("parent", PARENT)
    watched = ears.watching(part)
    watched.start()
    until(lambda: ears.lines)
    child = psutil.Process(int(ears.lines[0][1]))
    assert part.process is not None
    part.process.kill()
    until(lambda: len(ears.lines) > 1, watched)
    child.wait(10)
    watched.stop()


def test_halted_parts_are_stopped_at_once_and_with_their_children(ears: Ears) -> None:
    part = Part("parent", PARENT)
    watched = ears.watching(part)
    watched.start()
    until(lambda: ears.lines)
    child = psutil.Process(int(ears.lines[0][1]))
    assert part.process is not None
    for number in (child.pid, part.process.pid):
        os.kill(number, signal.SIGSTOP)
    begin = time.monotonic()
    watched.stop()
    assert time.monotonic() - begin < module.STOP_PATIENCE
    child.wait(10)
    assert ears.reports == []


def test_what_an_earlier_supervisor_left_behind_is_ended_and_nothing_else(tmp_path: Path) -> None:
    left, other = (
        subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL, env={**os.environ, module.SUPERVISED_HOME: str(home)})
        for home in (tmp_path, tmp_path / "other")
    )
    left.send_signal(signal.SIGSTOP)
    [line] = end_leftovers(tmp_path)
    assert "time.sleep(60)" in line
    assert not psutil.pid_exists(left.pid)
    left.wait(10)
    assert other.poll() is None
    other.kill()
    other.wait()


def test_the_next_part_starts_when_the_one_before_is_ready(ears: Ears, tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    first = Part("first", [sys.executable, "-c", f"open({str(flag)!r}, 'w'); import time; time.sleep(60)"], flag.exists)
    second = Part("second", [sys.executable, "-c", f"import os; print(os.path.exists({str(flag)!r}), flush=True)"])
    watched = ears.watching(first, second)
    watched.start()
    until(lambda: ("second", "True") in ears.lines)
    watched.stop()


def test_stopping_ends_all_parts_and_kills_the_deaf(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_PATIENCE", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    parts = [Part("sleeper", SLEEP), Part("deaf", [sys.executable, "-c", deaf])]
    watched = ears.watching(*parts)
    watched.start()
    until(lambda: len(ears.lines) == 2)
    processes = [part.process for part in parts if part.process is not None]
    watched.stop()
    assert [process.wait(5) for process in processes] == [-signal.SIGTERM, -signal.SIGKILL]
    assert ears.reports == [("deaf", "did not stop within 0 s and was killed")]


def test_no_part_outlives_a_supervisor_that_is_killed() -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from bid_assets.cli.supervisor import Part, Supervisor\n"
        f"part = Part('sleeper', {SLEEP!r})\n"
        "Supervisor([part], os.environ, Path.cwd(), lambda *_: None, lambda *_: None).start()\n"
        "print(part.process.pid, flush=True); time.sleep(60)"
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
        log.info("[part] line %s, and so on", number)
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["up.log", "up.log.1", "up.log.2", "up.log.3"]
    assert "line 99" in (tmp_path / "logs" / "up.log").read_text()
