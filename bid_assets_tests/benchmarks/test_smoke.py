"""Benchmarks rot where nobody runs them: each is run here with tiny sizes, to its end and the table that it prints."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets_tests.benchmarks import ablation
from bid_assets_tests.benchmarks.serving import contenders
from bid_assets_tests.platforms import Platform, small_platform

pytestmark = pytest.mark.slow

TINY = {
    "bench_encoder": ("--texts 2 --known 1000", "ours, known texts"),
    "bench_extraction": ("--bids 2000", "pandas.read_sql of a join"),
    "bench_history": ("--bids 2000 --repeats 1 --sample 50", "SQL, call by call"),
    "bench_long_history": ("--weeks 4 --bids 60", "again, with nothing new"),
    "bench_change_detection": ("--outcomes 2000", "fingerprints"),
    "bench_prediction_log": ("--seconds 0.05 --backlog 1000", "predictions/s written from a backlog"),
    "bench_promotion": ("--trials 1 --holdouts 1000", "1,000 bids of 150 profiles"),
    "bench_refresh": ("--weeks 3 --bids-a-week 60", "refresh of one window"),
    "bench_regime": ("--every 18 --weekly-bids 60", "below new regime alone by"),
    "bench_versions": ("--windows 8 --rows 1000", "MB/s"),
}
"""Arguments, and words of the last rows."""
ELSEWHERE = {"bench_loop"}
"""Over a loop that is turning already, in test_loop.py; `daily_year` too, and `soak` in test_soak.py."""


def test_every_benchmark_is_run() -> None:
    there = {path.stem for path in Path(__file__).parent.glob("bench_*.py")}
    assert there == set(TINY) | ELSEWHERE


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_finishes_and_prints_its_table(
    name: str, static_encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: Dagster and what trains models are imported once for all of them."""
    arguments, words = TINY[name]
    monkeypatch.setattr(sys, "argv", [name, *arguments.split()])
    importlib.import_module(f"bid_assets_tests.benchmarks.{name}").main()
    assert words in capsys.readouterr().out


@pytest.fixture
def platform(postgres: EmbeddedServer, static_encoder: Path, tmp_path: Path) -> Iterator[Platform]:
    with small_platform(postgres, tmp_path, static_encoder) as made:
        yield made


def test_the_service_answers_what_the_benchmark_of_serving_asks(platform: Platform, tmp_path: Path) -> None:
    bodies = contenders.bodies(platform.settings, tmp_path)
    with contenders.service(platform.settings) as (url, _, key), httpx.Client(headers={"X-API-Key": key}) as client:
        asked = {"/predict": bodies.bids[:3], "/predict/features": [*bodies.ready[:3], {"rows": bodies.ready[:3]}]}
        statuses = [client.post(url + path, json=body).status_code for path, each in asked.items() for body in each]
    assert statuses == [200] * 7


def test_the_ablation_prints_its_row(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cutoff, end = (platform.first_run["windows"][number] for number in (-2, -1))
    arguments = ["--cutoffs", cutoff, "--end", end, "--old", "0", "--only", "defaults"]
    monkeypatch.setattr(sys, "argv", ["ablation", *arguments])
    ablation.main()
    assert "defaults" in capsys.readouterr().out


def test_what_needs_wrk_still_loads() -> None:
    importlib.import_module("bid_assets_tests.benchmarks.serving.__main__")


def test_the_endpoints_beside_the_service_answer(platform: Platform, tmp_path: Path) -> None:
    bodies = contenders.bodies(platform.settings, tmp_path)
    with contenders.peers(tmp_path) as url, httpx.Client() as client:
        frame = {"columns": bodies.columns, "data": bodies.rows[:2]}
        asked = {"/empty": bodies.ready[0], "/parsed": bodies.ready[0], "/frame": frame}
        assert [client.post(url + path, json=body).status_code for path, body in asked.items()] == [200] * 3
