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
from pathlib import Path
from typing import Protocol

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from bid_assets.common.windows import utc_now

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PROBABILITY_BUCKETS = tuple(step / 20 for step in range(1, 21))
REFRESH_SECONDS = 1.0
"""Seconds between two updates of the counts of log and encoder, where there are several workers."""

_MIN_VECTORIZED = 16  # from so many scores on, NumPy counts them by bucket faster than one `observe` for each


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
        registry = self._registry = CollectorRegistry()
        self._requests = Histogram(
            "bid_assets_request_seconds",
            "Time from a request to its response, by path and class of the status.",
            ["path", "status"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._errors = Counter(
            "bid_assets_request_errors",
            "Requests answered with a status of 400 or more.",
            ["path", "status"],
            registry=registry,
        )
        self._scores = Histogram(
            "bid_assets_score",
            "Predicted probabilities, by variant: active, canary or shadow.",
            ["variant"],
            buckets=PROBABILITY_BUCKETS,
            registry=registry,
        )
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
        self._latency_children: dict[tuple[str, int], Histogram] = {}
        self._error_children: dict[tuple[str, int], Counter] = {}
        self._score_children: dict[str, Histogram] = {}
        self._counts: tuple[PredictionLogCounts, EncoderCounts] | None = None
        self._lock = threading.Lock()
        self._exposed_registry = CollectorRegistry()
        self._model = _ModelInfo(self._exposed_registry)
        ProcessCollector(registry=self._exposed_registry)
        self._directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        workers = MultiProcessCollector(None, self._directory) if self._directory else _RegistryProxy(registry)  # type: ignore[no-untyped-call]
        self._exposed_registry.register(workers)

    def watch_counts(self, log: PredictionLogCounts, texts: EncoderCounts) -> None:
        """Expose the counts of this log and this encoder."""
        self._counts = (log, texts)
        if self._directory:
            threading.Thread(target=self._refresh_loop, name="metrics", daemon=True).start()

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Record the latency and status of a request. `path` must be one of few: each label value costs memory for ever."""
        key = path, status // 100
        if (latency := self._latency_children.get(key)) is None:
            latency = self._latency_children[key] = self._requests.labels(path, f"{status // 100}xx")
        latency.observe(seconds)
        if status >= 400:
            key = path, status
            if (errors := self._error_children.get(key)) is None:
                errors = self._error_children[key] = self._errors.labels(path, str(status))
            errors.inc()

    def observe_scores(self, variant: str, probabilities: Sequence[float]) -> None:
        """Record the probabilities that a variant predicted."""
        if (scores := self._score_children.get(variant)) is None:
            scores = self._score_children[variant] = self._scores.labels(variant)
        if len(probabilities) < _MIN_VECTORIZED:
            for probability in probabilities:
                scores.observe(probability)
            return
        bucket_index = np.searchsorted(scores._upper_bounds, probabilities)
        counts = np.bincount(bucket_index, minlength=len(scores._buckets))
        for bucket, count in zip(scores._buckets, counts.tolist(), strict=True):
            if count:
                bucket.inc(count)
        scores._sum.inc(float(np.sum(probabilities)))

    def set_model(self, version: str | None, dataset: str | None, created_at: datetime | None, *, rejected: int = 0) -> None:
        """Record the active model (None: none yet), and how many models should serve but were rejected."""
        if version is not None and version != self._model.version:
            self._activations.inc()
        self._model.version, self._model.dataset, self._model.created_at = version, dataset, created_at
        self._ready.set(version is not None)
        self._rejected.set(rejected)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format, version 0.0.4."""
        self._refresh()
        if self._directory:
            _prune_dead_workers(Path(self._directory))
        return generate_latest(self._exposed_registry)

    def _refresh(self) -> None:
        if self._counts is None:
            return
        log, texts = self._counts
        with self._lock:
            self._backlog.set(log.backlog)
            self._written.advance_to(log.written)
            self._lost.advance_to(log.lost)
            self._hits.advance_to(texts.hits)
            self._misses.advance_to(texts.misses)

    def _refresh_loop(self) -> None:
        while True:
            time.sleep(REFRESH_SECONDS)
            self._refresh()


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

    def __init__(self, registry: CollectorRegistry) -> None:
        self.version: str | None = None
        self.dataset: str | None = None
        self.created_at: datetime | None = None
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("bid_assets_model_info", "The active model.", labels=["version", "dataset"])
        age = GaugeMetricFamily("bid_assets_model_age_seconds", "Time since the active model was trained.")
        if self.version is not None:
            info.add_metric([self.version, self.dataset or ""], 1)
        if self.created_at is not None:
            age.add_metric([], (utc_now() - self.created_at).total_seconds())
        yield from (info, age)


class _RegistryProxy(Collector):
    """Collects the metrics of another registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()


def _prune_dead_workers(directory: Path) -> None:
    """Remove the live gauges of workers that have ended: killed ones cannot do so themselves."""
    for pid in {int(file.stem.rsplit("_", 1)[1]) for file in directory.glob("gauge_live*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue
