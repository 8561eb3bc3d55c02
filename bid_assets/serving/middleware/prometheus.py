"""The service's figures for Prometheus, of all its worker processes together.

With several workers the environment variable PROMETHEUS_MULTIPROC_DIR must name an empty folder before this module is imported:
each worker keeps its figures in files there, and whichever is asked adds them up. Model and memory are those of the worker that
answers; all of them follow the same deployment history.
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

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CHANCES = tuple(step / 20 for step in range(1, 21))
REFRESH_SECONDS = 1.0
"""So often does each of several workers write down what its log and its encoder count."""

_FEW = 16  # from so many scores on, numpy sorts them into buckets faster than one call for each


class LogCounts(Protocol):
    """What is read of the prediction log."""

    written: int
    lost: int

    @property
    def backlog(self) -> int:
        """Predictions that wait."""


class TextCounts(Protocol):
    """What is read of the encoder."""

    @property
    def hits(self) -> int:
        """Texts that were known when they were looked up."""

    @property
    def misses(self) -> int:
        """Texts that had to be encoded."""


class Metrics:
    """The figures of one process. Threads may share it; what is called for each request costs a few microseconds."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self._requests = Histogram(
            "bid_assets_request_seconds",
            "Time from a request to its answer, by path and class of the status.",
            ["path", "status"],
            buckets=SECONDS,
            registry=own,
        )
        self._errors = Counter(
            "bid_assets_request_errors", "Requests answered with a status of 400 or more.", ["path", "status"], registry=own
        )
        self._scores = Histogram(
            "bid_assets_score",
            "Probabilities, by who gave them: active, canary or shadow.",
            ["variant"],
            buckets=CHANCES,
            registry=own,
        )
        self._ready = Gauge(
            "bid_assets_ready",
            "1 where a verified model is loaded, in every worker.",
            multiprocess_mode="livemin",
            registry=own,
        )
        self._activations = Counter(
            "bid_assets_model_activations", "Models that began to serve, counted by each worker.", registry=own
        )
        self._rejected = Gauge(
            "bid_assets_models_refused",
            "Models that should serve but failed their verification.",
            multiprocess_mode="livemax",
            registry=own,
        )
        texts = Counter("bid_assets_texts", "Texts looked up in the memory of embeddings.", ["result"], registry=own)
        self._hits, self._misses = _Total(texts.labels("hit")), _Total(texts.labels("miss"))
        self._backlog = Gauge(
            "bid_assets_prediction_log_backlog",
            "Predictions that wait for the database.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self._written = _Total(Counter("bid_assets_prediction_log_written", "Predictions in the database.", registry=own))
        self._lost = _Total(Counter("bid_assets_prediction_log_lost", "Predictions that nobody will remember.", registry=own))
        self._latency_of: dict[tuple[str, int], Histogram] = {}
        self._error_of: dict[tuple[str, int], Counter] = {}
        self._score_of: dict[str, Histogram] = {}
        self._watched: tuple[LogCounts, TextCounts] | None = None
        self._turn = threading.Lock()
        self._all = CollectorRegistry()
        self._model = _ModelFacts(self._all)
        ProcessCollector(registry=self._all)
        self._folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        everything = MultiProcessCollector(None, self._folder) if self._folder else _Other(own)  # type: ignore[no-untyped-call]
        self._all.register(everything)

    def watch(self, log: LogCounts, texts: TextCounts) -> None:
        """Read the counts of this log and this encoder from now on."""
        self._watched = (log, texts)
        if self._folder:
            threading.Thread(target=self._refresh_for_ever, name="metrics", daemon=True).start()

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered. `path` must be one of few: every new one costs memory for ever."""
        key = path, status // 100
        if (latency := self._latency_of.get(key)) is None:
            latency = self._latency_of[key] = self._requests.labels(path, f"{status // 100}xx")
        latency.observe(seconds)
        if status >= 400:
            key = path, status
            if (errors := self._error_of.get(key)) is None:
                errors = self._error_of[key] = self._errors.labels(path, str(status))
            errors.inc()

    def observe_scores(self, variant: str, probabilities: Sequence[float]) -> None:
        """Count what a model said."""
        if (scores := self._score_of.get(variant)) is None:
            scores = self._score_of[variant] = self._scores.labels(variant)
        if len(probabilities) < _FEW:
            for probability in probabilities:
                scores.observe(probability)
            return
        places = np.searchsorted(scores._upper_bounds, probabilities)
        counts = np.bincount(places, minlength=len(scores._buckets))
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
        """All figures in Prometheus' text format, version 0.0.4."""
        self._refresh()
        if self._folder:
            _forget_the_dead(Path(self._folder))
        return generate_latest(self._all)

    def _refresh(self) -> None:
        if self._watched is None:
            return
        log, texts = self._watched
        with self._turn:
            self._backlog.set(log.backlog)
            self._written.rise_to(log.written)
            self._lost.rise_to(log.lost)
            self._hits.rise_to(texts.hits)
            self._misses.rise_to(texts.misses)

    def _refresh_for_ever(self) -> None:
        while True:
            time.sleep(REFRESH_SECONDS)
            self._refresh()


class _Total:
    """A counter of something that is counted elsewhere."""

    def __init__(self, counter: Counter) -> None:
        self._counter, self._seen = counter, 0

    def rise_to(self, total: int) -> None:
        if total > self._seen:
            self._counter.inc(total - self._seen)
            self._seen = total


class _ModelFacts(Collector):
    """Version and age of the model that this process answers by."""

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


class _Other(Collector):
    """Everything of another registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()


def _forget_the_dead(folder: Path) -> None:
    """Workers that were killed cannot take back what they said about themselves."""
    for pid in {int(file.stem.rsplit("_", 1)[1]) for file in folder.glob("gauge_live*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue
