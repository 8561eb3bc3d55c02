"""Metrics for Prometheus, as a scraper reads them; those of several processes add up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bid_assets.common.windows import utc_now
from bid_assets.serving.middleware.prometheus import Metrics


def parse_metrics(text: bytes) -> dict[str, float]:
    """`name{label=value,...}` -> value."""
    samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_requests_are_counted_by_path_class_and_time_and_errors_by_status() -> None:
    metrics = Metrics()
    for status, seconds in ((200, 0.0031), (200, 0.8), (422, 0.001), (503, 10.0)):
        metrics.observe_request("/predict", status, seconds)
    samples = parse_metrics(metrics.exposition())
    assert samples["bid_assets_request_seconds_count{path=/predict,status=2xx}"] == 2
    assert samples["bid_assets_request_seconds_bucket{le=0.005,path=/predict,status=2xx}"] == 1
    assert samples["bid_assets_request_seconds_sum{path=/predict,status=2xx}"] == pytest.approx(0.8031)
    assert samples["bid_assets_request_errors_total{path=/predict,status=422}"] == 1
    assert samples["bid_assets_request_errors_total{path=/predict,status=503}"] == 1
    assert "bid_assets_request_errors_total{path=/predict,status=200}" not in samples


@given(st.lists(st.floats(0, 1), min_size=16, max_size=60))
def test_law_many_scores_at_once_count_like_one_by_one(scores: list[float]) -> None:
    at_once, one_by_one = Metrics(), Metrics()
    at_once.observe_scores("active", scores)
    for score in scores:
        one_by_one.observe_scores("active", [score])
    first, second = (_of_scores(metrics) for metrics in (at_once, one_by_one))
    assert first == pytest.approx(second)
    assert first["bid_assets_score_count{variant=active}"] == len(scores)


def _of_scores(metrics: Metrics) -> dict[str, float]:
    return {name: value for name, value in parse_metrics(metrics.exposition()).items() if name.startswith("bid_assets_score")}


def test_before_the_first_model_it_is_not_ready_and_tells_of_none() -> None:
    metrics = Metrics()
    metrics.set_model(None, None, None)
    samples = parse_metrics(metrics.exposition())
    assert samples["bid_assets_ready"] == 0
    assert not [name for name in samples if name.startswith(("bid_assets_model_info", "bid_assets_model_age"))]


def test_version_and_age_are_those_of_the_model_that_answers_now() -> None:
    metrics = Metrics()
    metrics.set_model("v1", "d1", utc_now() - timedelta(hours=3))
    metrics.set_model("v2", "d2", utc_now() - timedelta(hours=1), rejected=1)
    metrics.set_model("v2", "d2", utc_now() - timedelta(hours=1), rejected=2)
    samples = parse_metrics(metrics.exposition())
    assert samples["bid_assets_model_info{dataset=d2,version=v2}"] == 1
    assert not [name for name in samples if "version=v1" in name]
    assert samples["bid_assets_model_age_seconds"] == pytest.approx(3600, abs=60)
    assert samples["bid_assets_model_activations_total"] == 2
    assert samples["bid_assets_models_refused"] == 2
    assert samples["bid_assets_ready"] == 1


def test_what_log_and_encoder_count_is_read_when_asked() -> None:
    log = SimpleNamespace(backlog=7, written=5, lost=1)
    texts = SimpleNamespace(hits=10, misses=3)
    metrics = Metrics()
    metrics.watch_counts(log, texts)
    metrics.exposition()
    log.backlog, log.written, texts.hits = 2, 10, 12
    samples = parse_metrics(metrics.exposition())
    assert samples["bid_assets_prediction_log_backlog"] == 2
    assert samples["bid_assets_prediction_log_written_total"] == 10
    assert samples["bid_assets_prediction_log_lost_total"] == 1
    assert samples["bid_assets_texts_total{result=hit}"] == 12
    assert samples["bid_assets_texts_total{result=miss}"] == 3


def test_the_memory_of_the_worker_is_among_the_metrics() -> None:
    assert parse_metrics(Metrics().exposition())["process_resident_memory_bytes"] > 1e6


WORKER = """
import sys, time
from types import SimpleNamespace
from bid_assets.serving.middleware.prometheus import Metrics
metrics = Metrics()
metrics.watch_counts(SimpleNamespace(backlog=2, written=10, lost=0), SimpleNamespace(hits=1, misses=0))
metrics.set_model("v1", "d1", None)
metrics.observe_request("/predict", 200, 0.001)
metrics.observe_scores("active", [0.3] * 20)
time.sleep(1.5)
print("there", flush=True)
sys.stdin.readline()
sys.stdout.buffer.write(metrics.exposition())
"""


def test_the_metrics_of_several_workers_add_up_and_killed_ones_do_not_linger(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"there\n"
    workers[0].kill()
    workers[0].wait()
    told, _ = workers[1].communicate(b"\n")
    samples = parse_metrics(told)
    workers[2].communicate(b"\n")
    assert samples["bid_assets_request_seconds_count{path=/predict,status=2xx}"] == 3, "what the dead one has done, it has done"
    assert samples["bid_assets_score_count{variant=active}"] == 60
    assert samples["bid_assets_prediction_log_written_total"] == 30
    assert samples["bid_assets_prediction_log_backlog"] == 4
    assert samples["bid_assets_ready"] == 1
    assert samples["bid_assets_model_info{dataset=d1,version=v1}"] == 1


def test_a_request_and_its_score_cost_microseconds() -> None:
    metrics = Metrics()

    def best() -> float:
        started = time.perf_counter()
        for _ in range(1000):
            metrics.observe_request("/predict", 200, 0.004)
            metrics.observe_scores("active", [0.4])
        return (time.perf_counter() - started) / 1000

    assert min(best() for _ in range(10)) < 30e-6
