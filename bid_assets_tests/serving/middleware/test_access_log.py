"""Logs as JSON: whole lines, nothing secret, and nobody waits for a stream that is stuck."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.serving.middleware import access_log
from bid_assets.serving.middleware.access_log import REQUEST_ID, JsonLog


def log_request(log: JsonLog, path: str = "/predict") -> None:
    log.log_request(1_764_000_000.25, "r1", "POST", path, 200, 0.00123456, "bidder", "v1", "127.0.0.1")


@pytest.fixture
def stream() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def log(stream: io.BytesIO) -> Iterator[JsonLog]:
    made = JsonLog(stream)
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield made
    made.close()
    logging.getLogger().handlers[:] = before
    logging.getLogger().setLevel(level)


def test_a_request_is_one_line(log: JsonLog, stream: io.BytesIO) -> None:
    log_request(log)
    log.close()
    assert orjson.loads(stream.getvalue()) == {
        "time": "2025-11-24T16:00:00.250000Z",
        "level": "info",
        "event": "request",
        "request_id": "r1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "ms": 1.235,
        "key": "bidder",
        "model": "v1",
        "client": "127.0.0.1",
    }


def test_lines_are_there_within_a_moment_without_anybody_asking(log: JsonLog, stream: io.BytesIO) -> None:
    log_request(log)
    deadline = time.monotonic() + 5
    while not stream.getvalue().endswith(b"}\n"):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_pythons_logging_is_told_becomes_a_line_with_the_request_it_belongs_to(log: JsonLog, stream: io.BytesIO) -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # as an earlier server in this process may have left it
    log.install()
    REQUEST_ID.set("r7")
    try:
        raise ValueError("nothing\nof the kind")
    except ValueError:
        logging.getLogger("bid_assets.here").exception("could not do %d", 3)
    REQUEST_ID.set(None)
    logging.getLogger("uvicorn.error").info("started")
    log.close()
    first, second = (orjson.loads(line) for line in stream.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert __file__ in first.pop("traceback")[0]
    assert first == {
        "level": "error",
        "event": "log",
        "logger": "bid_assets.here",
        "message": "could not do 3",
        "request_id": "r7",
        "error": "ValueError",
        "error_message": "nothing\nof the kind",
    }
    assert (second["logger"], second["message"]) == ("uvicorn.error", "started")
    assert "request_id" not in second


@given(st.text())
def test_law_whatever_a_path_holds_it_is_one_line_of_json(path: str) -> None:
    stream = io.BytesIO()
    log = JsonLog(stream)
    log_request(log, path)
    log_request(log, "\ud800" + path)  # half of a surrogate pair, which JSON cannot hold
    log.close()
    assert [orjson.loads(line)["request_id"].strip("'") for line in stream.getvalue().splitlines()] == ["r1", "r1"]


def test_a_key_is_blotted_out_wherever_it_stands(log: JsonLog, stream: io.BytesIO) -> None:
    token = "ba_0123abcd_" + "5e" * 32
    log_request(log, f"/{token}/x")
    log.install()
    logging.getLogger("here").error("%s and %s", token, token.upper().replace("BA_", "ba_"))
    log.close()
    assert b"5e5e" not in stream.getvalue().lower()
    assert b"ba_0123abcd_..." in stream.getvalue()


def test_lines_after_the_end_are_still_written(log: JsonLog, stream: io.BytesIO) -> None:
    log.close()
    log_request(log)
    assert stream.getvalue().count(b"\n") == 1


def test_a_stream_that_nobody_reads_holds_up_no_request_and_what_is_dropped_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access_log, "MAX_QUEUED", 3000)
    reading, writing = os.pipe()
    with open(writing, "wb") as stream, open(reading, "rb") as reader:  # noqa: PTH123 - descriptors
        log = JsonLog(stream)
        started = time.monotonic()
        for _ in range(9000):
            log_request(log)
        assert time.monotonic() - started < 3
        os.set_blocking(reading, False)
        content, deadline = b"", time.monotonic() + 10
        while log._queue.qsize() >= 3000:  # the writer goes on as soon as somebody reads
            content += reader.read(1 << 16) or b""
        log_request(log)
        while accounted_for(content) < 9001:
            assert time.monotonic() < deadline
            content += reader.read(1 << 16) or b""
        log.close()
    assert accounted_for(content) == 9001
    assert b'"dropped":' in content


def accounted_for(content: bytes) -> int:
    """Requests in the whole lines of a log, and those that it counts as dropped."""
    lines = [orjson.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    return sum(line.get("dropped", line["event"] == "request") for line in lines)


def test_a_log_whose_stream_is_stuck_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "CLOSE_SECONDS", 0.1)
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as stream, open(reading, "rb") as reader:  # noqa: PTH123 - descriptors
        log = JsonLog(stream)
        for _ in range(1000):
            log_request(log)
        started = time.monotonic()
        log.close()
        log_request(log)
        assert time.monotonic() - started < 5
        for _ in range(1000):  # sets the writer free
            reader.readline()


def test_a_request_costs_its_caller_a_microsecond_or_two(log: JsonLog) -> None:
    def each() -> float:
        started = time.perf_counter()
        for _ in range(1000):
            log_request(log)
        return (time.perf_counter() - started) / 1000

    assert min(each() for _ in range(10)) < 10e-6


def test_by_default_lines_go_to_stderr() -> None:
    import subprocess

    imports = "import logging; from bid_assets.serving.middleware.access_log import JsonLog"
    code = f"{imports}; log = JsonLog(); log.install(); logging.info('hi'); log.close()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b""
    assert orjson.loads(done.stderr)["message"] == "hi"
