"""The state that the retraining policy decides on: from the store which versions there are, from Dagster which runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from bid_assets.common.windows import TimeRange, utc_now
from bid_assets.deployments.events import active_model
from bid_assets.deployments.retraining_requests import pending_requests
from bid_assets.orchestration.assets.data_checks import QUALITY_CHECKS
from bid_assets.orchestration.assets.model import MODEL_CODE_VERSION
from bid_assets.orchestration.lookback import dataset_lookback
from bid_assets.orchestration.partitions import first_key_of
from bid_assets.orchestration.refresh.planning import newest_window
from bid_assets.orchestration.retraining.policy import FailedAttempt, RetrainingRequest, RetrainingState
from bid_assets.orchestration.run_history import (
    OUTCOMES_TAG,
    RETRAINING_KINDS,
    LoopRun,
    failure_message,
    failures_in_a_row,
    finished_runs,
    refreshes_in_flight,
    retrainings_in_flight,
)
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore


def gather_state(instance: dg.DagsterInstance, store: VersionStore, settings: Settings) -> RetrainingState:
    """The state at this moment."""
    ended = finished_runs(instance, RETRAINING_KINDS)
    active = active_model(store)
    learned_from = _dataset_of(store, active.model) if active is not None else None
    newest = _newest(store, "training_dataset")
    window = newest_window(store)
    failed = failures_in_a_row(ended)
    return RetrainingState(
        now=utc_now(),
        window=window,
        active_model=active.model.version if active is not None else None,
        dataset_created_at=learned_from.created_at if learned_from is not None else None,
        outcomes_since_active_model=outcomes_since(store, settings, window, learned_from),
        outcomes_since_last_dataset=outcomes_since(store, settings, window, newest),
        last_attempt_at=max(
            (at for at in [_ended(ended), newest.created_at if newest else None] if at is not None), default=None
        ),
        failures=tuple(_failure(instance, run) for run in failed),
        blocked_by=_blocked_by(instance, failed[0]) if failed else None,
        undecided_dataset=newest.version if newest is not None and not _decided(store, newest, ended) else None,
        retraining_runs=tuple(run.run_id for run in retrainings_in_flight(instance)),
        refreshing_runs=tuple(run.run_id for run in refreshes_in_flight(instance) if run.is_executing),
        requests=tuple(RetrainingRequest(name, reason, at) for name, (reason, at) in pending_requests(store).items()),
        outdated_model=_outdated_model(store),
    )


def _outdated_model(store: VersionStore) -> str | None:
    """The newest model, if it was not made by the asset's present code."""
    newest = _newest(store, "trained_model")
    outdated = newest is not None and newest.code.asset not in (None, MODEL_CODE_VERSION)
    return newest.version if newest is not None and outdated else None


def outcomes_since(store: VersionStore, settings: Settings, window: str | None, dataset: Manifest | None) -> int:
    """How many outcomes in the look-back of `window` are new, changed or gone since `dataset` was made; None: since ever."""
    if window is None:
        return 0
    first = first_key_of(settings.cadence, window, dataset_lookback(settings, store, window))
    keys = settings.cadence.keys(TimeRange(settings.cadence.window(first).start, settings.cadence.window(window).end))
    present = store.heads("raw_bid_outcomes", keys)
    pinned = {ref.partition: ref for ref in dataset.inputs if ref.asset == "raw_bid_outcomes"} if dataset is not None else {}
    return sum(_difference(store, pinned.get(key), head) for key, head in present.items())


def _difference(store: VersionStore, before: InputRef | None, now: Manifest) -> int:
    """Outcomes that only one of two versions has, an edited one counted once; all of them where there was none before, or
    where one of the two can no longer be read."""
    if before is None:
        return now.rows or 0
    if before.content_hash == now.content_hash:
        return 0
    try:
        old, new = (
            _outcomes(store, manifest) for manifest in (store.manifest(before.asset, before.partition, before.version), now)
        )
    except (VersionNotFoundError, CorruptVersionError):
        return now.rows or 0
    return len({row[0] for row in old ^ new})


def _outcomes(store: VersionStore, manifest: Manifest) -> set[tuple[object, ...]]:
    names = ["id", "bid_id", "is_success", "outcome_timestamp"]
    table: pa.Table = pq.read_table(store.fetch(manifest), columns=names, partitioning=None)
    return set(
        zip(
            *(table[name].cast(pa.int64()).to_pylist() if name == names[3] else table[name].to_pylist() for name in names),
            strict=True,
        )
    )


def _dataset_of(store: VersionStore, model: InputRef) -> Manifest | None:
    """The dataset that a model learned from; None where its manifest or that of the model is gone."""
    learned = store.manifests([model]).get(model)
    inputs = [ref for ref in learned.inputs if ref.asset == "training_dataset"] if learned is not None else []
    return store.manifests(inputs).get(inputs[0]) if inputs else None


def _newest(store: VersionStore, asset: str) -> Manifest | None:
    """HEAD of the newest window: those of older ones may have been made later (`run --cutoff-windows all`), and know less."""
    heads = store.heads(asset, store.partitions(asset))
    return heads[max(heads)] if heads else None


def _decided(store: VersionStore, dataset: Manifest, ended: Sequence[LoopRun]) -> bool:
    """Whether a dataset has led to a decision, or to a run that somebody canceled or that ended well without one (too few
    rows).
    """
    closed = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED)
    if any(run.status in closed and run.ended_at is not None and run.ended_at >= dataset.created_at for run in ended):
        return True
    decision = store.heads("deployment", [dataset.partition]).get(dataset.partition)
    models = [ref for ref in decision.inputs if ref.asset == "trained_model"] if decision is not None else []
    return any((of := _dataset_of(store, model)) is not None and of.version == dataset.version for model in models)


def _ended(runs: Sequence[LoopRun]) -> datetime | None:
    return runs[0].ended_at if runs else None


def _failure(instance: dg.DagsterInstance, run: LoopRun) -> FailedAttempt:
    assert run.ended_at is not None
    return FailedAttempt(run.run_id, run.ended_at, failure_message(instance, run.run_id), int(run.tags.get(OUTCOMES_TAG, "0")))


def _blocked_by(instance: dg.DagsterInstance, run: LoopRun) -> str | None:
    """The data-quality checks that failed in this run, if any."""
    names: Iterable[str] = (
        name
        for name in QUALITY_CHECKS
        for record in instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("training_dataset"), name), limit=1
        )
        if record.run_id == run.run_id and record.status.value == "FAILED"
    )
    return ", ".join(names) or None
