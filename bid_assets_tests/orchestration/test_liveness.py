"""What parts are asked: who is silent has not answered, within the deadline. That working parts do answer is in test_up.py."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat
from sqlalchemy.exc import OperationalError

from bid_assets.orchestration import liveness
from bid_assets.orchestration.liveness import (
    code_is_loaded,
    code_server_answers,
    daemon_is_alive,
    service_answers,
    web_server_answers,
)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address where connections are taken and nothing is ever said."""
    monkeypatch.setattr(liveness, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def answered(question: Callable[[], bool]) -> bool:
    begin = time.monotonic()
    try:
        return question()
    except Exception:
        return False
    finally:
        assert time.monotonic() - begin < 5


@pytest.mark.parametrize("question", [web_server_answers, service_answers, code_is_loaded])
def test_a_silent_server_does_not_answer(silent: str, question: Callable[[str], bool]) -> None:
    assert not answered(lambda: question(silent))


def test_a_silent_code_server_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "ANSWER_SECONDS", 1)
    assert not answered(lambda: code_server_answers(tmp_path / "code"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "code"))
        listening.listen()
        assert not answered(lambda: code_server_answers(tmp_path / "code"))


def beat(instance: dg.DagsterInstance, seconds_ago: float, *kinds: str) -> None:
    for kind in kinds or instance.get_required_daemon_types():
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - seconds_ago, kind, "a daemon", []))


def test_a_daemon_without_heartbeats_does_not_answer(dagster_instance: dg.DagsterInstance) -> None:
    assert not daemon_is_alive(dagster_instance)


def test_a_daemon_answers_while_its_heartbeats_are_young(dagster_instance: dg.DagsterInstance) -> None:
    beat(dagster_instance, 60)
    assert daemon_is_alive(dagster_instance)
    beat(dagster_instance, 180)
    assert not daemon_is_alive(dagster_instance)


def test_one_thread_may_be_late_for_a_long_tick_but_not_hang(dagster_instance: dg.DagsterInstance) -> None:
    beat(dagster_instance, 10)
    beat(dagster_instance, 600, "SENSOR")
    assert daemon_is_alive(dagster_instance)
    beat(dagster_instance, 1000, "SENSOR")
    assert not daemon_is_alive(dagster_instance)


def test_a_database_that_cannot_be_asked_is_no_fault_of_the_daemon(
    dagster_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise OperationalError("select", {}, Exception("gone"))

    monkeypatch.setattr(dagster_instance, "get_daemon_heartbeats", gone)
    assert daemon_is_alive(dagster_instance)
