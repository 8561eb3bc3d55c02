"""Materialize windows through Dagster's own instance, in this process, with its events as they happen.

For the command line: what runs here shows in the UI like any other run. Dagster's `materialize` keeps every output of
a run in memory until it ends; here outputs go as soon as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import RunFailureReason
from dagster._core.execution.api import execute_run_iterator
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    `failures` are the messages of the steps that failed (or the run's own), `skipped` the steps that did not run.
    """

    run_id: str
    succeeded: bool
    failures: tuple[str, ...]
    skipped: tuple[str, ...]
    observations: Mapping[str, str]


def materialize(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    assets: Iterable[str],
    keys: Sequence[str],
    *,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> RunOutcome:
    """Materialize `assets` for all windows of `keys` (consecutive) in one run. `config` is op config by op name.

    Raises KeyboardInterrupt where Ctrl-C or SIGTERM ended the run, which Dagster itself only records: the caller would go on
    with its next run.
    """
    selection = frozenset(dg.AssetKey(name) for name in assets)
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=selection)
    run = instance.create_run_for_job(
        job_def=job,
        asset_selection=selection,
        tags={**partition_tags(keys), **(tags or {})},
        run_config={**QUIET, "ops": {name: {"config": dict(values)} for name, values in (config or {}).items()}},
    )
    failures, skipped, observations, interrupted = [], [], {}, False
    for event in execute_run_iterator(InMemoryJob(job), run, instance):
        if event.event_type is dg.DagsterEventType.STEP_FAILURE:
            failures.append(f"{event.step_key}: {failure_reason(event)}")
        elif event.event_type is dg.DagsterEventType.STEP_SKIPPED and event.step_key:
            skipped.append(event.step_key)
        elif event.event_type is dg.DagsterEventType.ASSET_OBSERVATION:
            observation = event.asset_observation_data.asset_observation
            observations[observation.asset_key.to_user_string()] = observation.description or ""
        elif event.event_type is dg.DagsterEventType.RUN_FAILURE:
            interrupted = event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION
            if not failures:  # no step was to blame
                cause = event.job_failure_data.error
                failures.append((cause.message if cause else event.message or "").strip() or "no reason was recorded")
    if interrupted:
        raise KeyboardInterrupt
    ended = instance.get_run_by_id(run.run_id)
    succeeded = ended is not None and ended.is_success
    return RunOutcome(run.run_id, succeeded, tuple(failures), tuple(skipped), observations)


def partition_tags(keys: Sequence[str]) -> dict[str, str]:
    """The tags by which Dagster knows which windows a run is for."""
    if len(keys) == 1:
        return {PARTITION_NAME_TAG: keys[0]}
    return {ASSET_PARTITION_RANGE_START_TAG: keys[0], ASSET_PARTITION_RANGE_END_TAG: keys[-1]}


def failure_reason(event: dg.DagsterEvent) -> str:
    """Why a step failed: what an asset itself said, neither Dagster's wrapping of it nor what had made the asset say it."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None and str(error.cls_name).startswith("Dagster"):
        error = error.cause
    return error.message.strip() if error is not None else "unknown error"
