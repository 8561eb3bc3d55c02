"""Writes every prediction to the prediction log, off the request's path: `add` queues, a thread writes every half second.

What is lost: nothing when the process ends by `close`; at most a second's predictions when it is killed, as long as the
database responds. While it does not, up to `prediction_log_max_rows` predictions wait; then the newest are dropped and counted
(`lost`). The tables and their SQL are in `schema`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.database import prediction_db_url
from bid_assets.common.windows import utc_now
from bid_assets.prediction_log.schema import COLUMNS, PredictionTables
from bid_assets.settings import Settings

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
"""Between the starts of two writes. With the time that a write takes this is what a killed process loses."""

_BATCH_ROWS = 5_000
_MAX_BACKOFF_SECONDS = 5.0  # seconds between two attempts to reach a database that does not respond
_STALL_SECONDS = 5.0  # seconds after which a write under way is reported as an error
_SWEEP_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One logged prediction, of the active model, a canary or a shadow."""

    id: str
    at: datetime
    """When it was requested, timezone-aware."""
    bid_id: str | None
    profile_id: str | None
    job_id: str | None
    model: str
    """Its version."""
    dataset: str
    """The version of the model's training dataset."""
    variant: str
    """`active`, `canary` or `shadow`."""
    probability: float
    decision: bool
    features: npt.NDArray[np.float32]
    """The model's input row, in the order of its features' names; shape (features,)."""


class PredictionLog:
    """Writes predictions to the prediction database. Threads may share it; every process needs its own."""

    def __init__(self, settings: Settings) -> None:
        self.written = 0
        self.lost = 0
        self._settings = settings
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._abandoned = False
        self._queue: list[PredictionRecord] = []
        self._in_flight: list[PredictionRecord] = []
        self._names: dict[str, tuple[str, ...]] = {}
        self._unwritten_names: dict[str, tuple[str, ...]] = {}
        self._tables: PredictionTables | None = None
        self._may_exist = False  # whether the batch at hand may be in the database already
        self._busy_since: float | None = None
        self._failure: str | None = None
        self._swept_at = -_SWEEP_SECONDS

    @property
    def backlog(self) -> int:
        """Predictions that are not in the database yet."""
        return len(self._queue) + len(self._in_flight)

    @property
    def error(self) -> str | None:
        """Why predictions are waiting; None where they are not, or not for long."""
        since = self._busy_since
        if self._failure is None and since is not None and time.monotonic() - since > _STALL_SECONDS:
            return f"the prediction database has not answered for {time.monotonic() - since:.0f} s"
        return self._failure

    def name_features(self, model: str, names: Sequence[str]) -> None:
        """Register the names of the numbers in `features` for this version of a model; once is enough."""
        with self._lock:
            self._names[model] = self._unwritten_names[model] = tuple(names)
            self._start_thread()

    def add(self, predictions: Sequence[PredictionRecord]) -> None:
        """Queue predictions. Takes microseconds whatever the state of the database, and never raises."""
        with self._lock:
            room = 0 if self._closing.is_set() else max(0, self._settings.prediction_log_max_rows - self.backlog)
            accepted = predictions if len(predictions) <= room else predictions[:room]
            self._queue.extend(accepted)
            self.lost += len(predictions) - len(accepted)
            self._start_thread()

    def close(self, seconds: float = 10) -> None:
        """Write what is queued; what is not written after `seconds` is lost."""
        with self._lock:
            self._closing.set()
        if self._thread is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._abandoned = True
            self.lost += self.backlog

    def _start_thread(self) -> None:
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._run, name="prediction_log", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        failures = 0
        while not self._abandoned:
            closing = self._closing.is_set()
            self._busy_since = started = time.monotonic()
            try:
                self._flush()
                failures, self._failure = 0, None
            except Exception as error:  # whatever a driver, a network or a full disk may raise: the service goes on
                failures += 1
                self._handle_failure(error)
            self._busy_since = None
            if closing and not failures:
                break
            pause = min(FLUSH_SECONDS * 2**failures, _MAX_BACKOFF_SECONDS)
            if closing:
                time.sleep(FLUSH_SECONDS)
            else:
                self._closing.wait(max(0.0, pause - (time.monotonic() - started)))
        if self._tables is not None:
            self._tables.close()

    def _flush(self) -> None:
        """Write everything that is queued now, in batches of one transaction each."""
        if self._tables is None:
            self._tables = PredictionTables(prediction_db_url(self._settings))
            with self._lock:
                self._unwritten_names = dict(self._names)
        with self._lock:
            if not self._in_flight:
                self._in_flight, self._queue = self._queue, []
            names, self._unwritten_names = self._unwritten_names, {}
        if names:
            self._tables.name_features(names)
        while self._in_flight:
            batch = self._in_flight[:_BATCH_ROWS]
            may_exist, self._may_exist = self._may_exist, True
            self._tables.insert(to_record_batch(batch), may_exist=may_exist)
            with self._lock:
                self._may_exist = False
                self.written += len(batch)
                del self._in_flight[: len(batch)]
            self._busy_since = time.monotonic()
        self._sweep(self._tables)

    def _sweep(self, tables: PredictionTables) -> None:
        """Once an hour, drop the partitions beyond the retention."""
        if time.monotonic() - self._swept_at >= _SWEEP_SECONDS:
            tables.drop_before((utc_now() - timedelta(days=self._settings.prediction_retention_days)).date())
            self._swept_at = time.monotonic()

    def _handle_failure(self, error: Exception) -> None:
        """Record the failure and drop the connection; whether the batch under way was committed is not known."""
        if self._tables is not None:
            self._tables.close()
        self._tables = None
        reason = str(error).strip() or repr(error)
        if reason != self._failure:
            log.warning("predictions are not being written, %d wait: %s", self.backlog, reason)
        self._failure = reason


def to_record_batch(predictions: Sequence[PredictionRecord]) -> pa.RecordBatch:
    """The predictions with the schema `COLUMNS`."""
    columns = []
    for field in COLUMNS:
        if field.name == "features":
            offsets = np.zeros(len(predictions) + 1, np.int32)
            np.cumsum([len(each.features) for each in predictions], out=offsets[1:])
            numbers = np.concatenate([each.features for each in predictions], dtype=np.float32)
            columns.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers)))
        else:
            values = [getattr(each, field.name) for each in predictions]
            columns.append(_text_array(values) if field.type == pa.string() else pa.array(values, field.type))
    return pa.record_batch(columns, schema=COLUMNS)


def _text_array(values: list[str | None]) -> pa.Array:
    """Texts as PostgreSQL can hold them: callers may send any id, and one that is impossible must not block the others."""
    try:
        texts = pa.array(values, pa.string())
    except UnicodeEncodeError:  # half of a surrogate pair
        texts = pa.array([value and value.encode("utf-8", "replace").decode() for value in values], pa.string())
    return pc.replace_substring(texts, "\0", "\ufffd")
