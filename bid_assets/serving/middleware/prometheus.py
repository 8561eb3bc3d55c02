"""Metrics of the service for Prometheus, summed over its worker processes.

With several workers the environment variable PROMETHEUS_MULTIPROC_DIR must name an empty directory before this module is
imported: each worker keeps its metrics in files there, and the worker that is scraped adds them up. Model and process metrics
are those of the scraped worker; all of them follow the same deployment history.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Protocol

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from bid_assets.common.windows import utc_now

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PROBABILITY_BUCKETS = tuple(step / 20 for step in range(1, 21))
REFRESH_SECONDS = 1.0
"""Seconds between two updates of the counts of log and encoder, where there are several workers."""

_PID_SUFFIX = ".pid"  # each worker leaves such a file, named after its process id, beside those of its metrics


class PredictionLogCounts(Protocol):
    """The counts that are read of the prediction log."""

    written: int
    lost: int

    @property
    def backlog(self) -> int:
        """Predictions in the queue."""


class EncoderCounts(Protocol):
    """The counts that are read of the encoder."""

    @property
    def hits(self) -> int:
        """Texts whose embedding was cached."""

    @property
    def misses(self) -> int:
        """Texts that had to be encoded."""


class Metrics:
    """The metrics of one process. Threads may share it; what is called for each request costs a few microseconds."""

    def __init__(self) -> None:
        registry = self._exposed_registry = CollectorRegistry()
        if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
            registry = CollectorRegistry()  # this worker's own metrics are read from its files, like those of the others
            (Path(directory) / f"{os.getpid()}{_PID_SUFFIX}").touch()
        self._directory = directory
        ProcessCollector(registry=self._exposed_registry)
        self._model_info = _ModelInfo()
        self._exposed_registry.register(self._model_info)
        self._model_state = _ModelState(registry)
        self._counts = _WatchedCounts(registry)
        requests = Histogram(
            "bid_assets_request_seconds",
            "Time from a request to its response, by path and class of the status.",
            ["path", "status"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        errors = Counter(
            "bid_assets_request_errors",
            "Requests answered with a status of 400 or more.",
            ["path", "status"],
            registry=registry,
        )
        scores = Histogram(
            "bid_assets_score",
            "Predicted probabilities, by variant: active, canary or shadow.",
            ["variant"],
            buckets=PROBABILITY_BUCKETS,
            registry=registry,
        )
        # finding the child of some labels costs more than what is done with it
        self._requests_of, self._errors_of, self._scores_of = cache(requests.labels), cache(errors.labels), cache(scores.labels)

    def watch_counts(self, log: PredictionLogCounts, texts: EncoderCounts) -> None:
        """Expose the counts of this log and this encoder."""
        self._counts.watch(log, texts)
        if self._directory:
            threading.Thread(target=self._counts.refresh_forever, name="metrics", daemon=True).start()

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Record the latency and status of a request. `path` must be one of few: each label value costs memory for ever."""
        self._requests_of(path, f"{status // 100}xx").observe(seconds)
        if status >= 400:
            self._errors_of(path, str(status)).inc()

    def observe_scores(self, variant: str, probabilities: Sequence[float]) -> None:
        """Record the probabilities that a variant predicted: some microseconds for each."""
        scores = self._scores_of(variant)
        for probability in probabilities:
            scores.observe(probability)

    def set_model(self, version: str | None, dataset: str | None, created_at: datetime | None, *, rejected: int = 0) -> None:
        """Record the active model (None: none yet), and how many models should serve but were rejected."""
        activated = version is not None and version != self._model_info.version
        self._model_info.version, self._model_info.dataset, self._model_info.created_at = version, dataset, created_at
        self._model_state.set(ready=version is not None, activated=activated, rejected=rejected)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format, version 0.0.4."""
        self._counts.refresh()
        if self._directory:
            _prune_dead_workers(Path(self._directory))
        return generate_latest(self._exposed_registry)


class _ModelState:
    """Whether a model is loaded, and how often one began to serve or was rejected."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ready = Gauge(
            "bid_assets_ready",
            "1 where a verified model is loaded, in every worker.",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._activations = Counter(
            "bid_assets_model_activations", "Models that began to serve, counted by each worker.", registry=registry
        )
        self._rejected = Gauge(
            "bid_assets_models_refused",
            "Models that should serve but failed their verification.",
            multiprocess_mode="livemax",
            registry=registry,
        )

    def set(self, *, ready: bool, activated: bool, rejected: int) -> None:
        self._ready.set(ready)
        self._activations.inc(activated)
        self._rejected.set(rejected)


class _WatchedCounts:
    """What the prediction log and the encoder count themselves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        texts = Counter("bid_assets_texts", "Texts looked up in the cache of embeddings.", ["result"], registry=registry)
        self._hits, self._misses = _CounterOfTotal(texts.labels("hit")), _CounterOfTotal(texts.labels("miss"))
        self._backlog = Gauge(
            "bid_assets_prediction_log_backlog",
            "Predictions that wait for the database.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._written = _CounterOfTotal(
            Counter("bid_assets_prediction_log_written", "Predictions in the database.", registry=registry)
        )
        self._lost = _CounterOfTotal(
            Counter("bid_assets_prediction_log_lost", "Predictions that were dropped.", registry=registry)
        )
        self._sources: tuple[PredictionLogCounts, EncoderCounts] | None = None
        self._lock = threading.Lock()

    def watch(self, log: PredictionLogCounts, texts: EncoderCounts) -> None:
        self._sources = (log, texts)

    def refresh(self) -> None:
        if self._sources is None:
            return
        log, texts = self._sources
        with self._lock:
            self._backlog.set(log.backlog)
            self._written.advance_to(log.written)
            self._lost.advance_to(log.lost)
            self._hits.advance_to(texts.hits)
            self._misses.advance_to(texts.misses)

    def refresh_forever(self) -> None:
        while True:
            time.sleep(REFRESH_SECONDS)
            self.refresh()


class _CounterOfTotal:
    """Advances a counter to a total that is counted elsewhere."""

    def __init__(self, counter: Counter) -> None:
        self._counter, self._total = counter, 0

    def advance_to(self, total: int) -> None:
        if total > self._total:
            self._counter.inc(total - self._total)
            self._total = total


class _ModelInfo(Collector):
    """Collects version and age of the active model of this process."""

    version: str | None = None
    dataset: str | None = None
    created_at: datetime | None = None

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("bid_assets_model_info", "The active model.", labels=["version", "dataset"])
        age = GaugeMetricFamily("bid_assets_model_age_seconds", "Time since the active model was trained.")
        if self.version is not None:
            info.add_metric([self.version, self.dataset or ""], 1)
        if self.created_at is not None:
            age.add_metric([], (utc_now() - self.created_at).total_seconds())
        yield from (info, age)


def _prune_dead_workers(directory: Path) -> None:
    """Remove the live gauges of workers that have ended: killed ones cannot do so themselves."""
    for file in directory.glob(f"*{_PID_SUFFIX}"):
        if not psutil.pid_exists(int(file.stem)):
            mark_process_dead(file.stem, str(directory))  # type: ignore[no-untyped-call]
            file.unlink(missing_ok=True)
