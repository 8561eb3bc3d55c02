"""What Dagster's runs say about the loop: what is in flight, what failed and was not resolved since.

Runs that the loop starts carry the tags below. A run that somebody starts in the UI or on the command line has none of them
and is known by its assets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG

from bid_assets.features.registry import families
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.refresh.run_ranges import Refresh

KIND_TAG = "bid_assets/kind"
REASON_TAG = "bid_assets/reason"
ATTEMPT_TAG = "bid_assets/attempt"
OUTCOMES_TAG = "bid_assets/new_outcomes"

NEW_OUTCOMES_SENSOR = "new_outcomes_sensor"

_LATEST = 50


class RunKind(StrEnum):
    """What a run of the loop is for."""

    REFRESH = "refresh"
    RETRAINING = "retraining"
    CLOSING = "closing"
    """Both, for a window that has just ended."""


REFRESH_ASSETS = (*RAW_ASSETS, *(family.name for family in families()))
RETRAINING_ASSETS = ("training_dataset", "trained_model", "feature_importances", "metrics_report", "deployment", "model_card")

REFRESH_KINDS = (RunKind.REFRESH, RunKind.CLOSING)
RETRAINING_KINDS = (RunKind.RETRAINING, RunKind.CLOSING)


@dataclass(frozen=True)
class LoopRun:
    """A run, as far as the loop is concerned. `ended_at` is None while it is queued or running."""

    run_id: str
    kind: RunKind | None
    status: dg.DagsterRunStatus
    created_at: datetime
    ended_at: datetime | None
    first: str
    last: str
    assets: frozenset[str]
    tags: dict[str, str]

    @property
    def attempt(self) -> int:
        """Counts from 1."""
        return int(self.tags.get(ATTEMPT_TAG, "1"))

    @property
    def is_executing(self) -> bool:
        """Whether its steps are running: from then on it may be moving heads."""
        return self.status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)

    @property
    def failed(self) -> bool:
        """Whether it failed and is ours to try again: what people start by hand, they try again themselves."""
        return self.status is dg.DagsterRunStatus.FAILURE and ATTEMPT_TAG in self.tags

    @property
    def refresh(self) -> Refresh:
        """The raw and feature windows that it materializes; without an asset selection those of all families."""
        assets = self.assets or frozenset(REFRESH_ASSETS)
        reads_raw = not assets.isdisjoint(RAW_ASSETS)
        return Refresh(self.first, self.last, assets - frozenset(RAW_ASSETS) - frozenset(RETRAINING_ASSETS), reads_raw)


def assets_of(refresh: Refresh) -> tuple[str, ...]:
    """The assets that a refresh materializes."""
    return (*(RAW_ASSETS if refresh.reads_raw else ()), *sorted(refresh.families))


def refreshes_in_flight(instance: dg.DagsterInstance) -> list[LoopRun]:
    """The runs that are making raw tables or features, or wait to, whoever started them."""
    return _in_flight(instance, REFRESH_KINDS, REFRESH_ASSETS)


def retrainings_in_flight(instance: dg.DagsterInstance) -> list[LoopRun]:
    """The runs that are on their way from a dataset to a decision, or wait to start."""
    return _in_flight(instance, RETRAINING_KINDS, RETRAINING_ASSETS)


def _in_flight(instance: dg.DagsterInstance, kinds: Iterable[RunKind], assets: Iterable[str]) -> list[LoopRun]:
    kinds, assets = set(kinds), set(assets)
    runs = _runs(instance, dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
    return [run for run in runs if run.kind in kinds or run.assets & assets]


def finished_runs(instance: dg.DagsterInstance, kinds: Iterable[RunKind]) -> list[LoopRun]:
    """The latest runs of these kinds that have ended, newest first."""
    return [run for run in latest_runs(instance, kinds, _LATEST) if run.ended_at is not None]


def latest_runs(instance: dg.DagsterInstance, kinds: Iterable[RunKind], count: int) -> list[LoopRun]:
    """The newest runs of these kinds, whether or not they have ended."""
    return _runs(instance, dg.RunsFilter(tags={KIND_TAG: [kind.value for kind in kinds]}), count)


def new_outcomes_cursor(instance: dg.DagsterInstance) -> str | None:
    """Where `new_outcomes_sensor` stands; None where no daemon has asked it yet."""
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        if state.name == NEW_OUTCOMES_SENSOR and state.instigator_data is not None:
            return getattr(state.instigator_data, "cursor", None)
    return None


def failures_in_a_row(runs: Sequence[LoopRun]) -> list[LoopRun]:
    """The loop's own failed ones before the first success, newest first. One that somebody canceled is neither."""
    failed = []
    for run in runs:
        if run.status is dg.DagsterRunStatus.SUCCESS:
            break
        if run.failed:
            failed.append(run)
    return failed


def unresolved_failures(runs: Sequence[LoopRun], start: str = "") -> list[LoopRun]:
    """The failed refreshes that no later run has covered, the newest of each; `runs` newest first.

    Of windows before `start`, which are no windows any more, nothing has to be covered.
    """
    failed: list[LoopRun] = []
    later: list[Refresh] = []
    for run in runs:
        refresh = replace(run.refresh, first=max(run.first, start))
        if run.failed and refresh.first <= refresh.last and not any(other.covers(refresh) for other in later):
            failed.append(replace(run, first=refresh.first))
        later.append(run.refresh)
    return failed


def repetitions(runs: Sequence[LoopRun], refresh: Refresh) -> list[LoopRun]:
    """The latest runs that did just this refresh, with none between them that read raw tables; `runs` newest first."""
    same: list[LoopRun] = []
    for run in runs:
        if run.refresh == refresh:
            same.append(run)
        elif run.refresh.reads_raw:
            break
    return same


def failure_message(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the failed step itself said, in one line."""
    from bid_assets.orchestration.in_process_runs import failure_reason

    for failure_type in (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE):
        for record in instance.get_records_for_run(run_id, of_type=failure_type, limit=1).records:
            event = record.event_log_entry.dagster_event
            if event is not None:
                step = f"{event.step_key}: " if event.step_key else ""
                return (step + (failure_reason(event) if event.is_step_failure else event.message or "")).split("\n")[0]
    return "no reason was recorded"


def _runs(instance: dg.DagsterInstance, runs_filter: dg.RunsFilter, count: int = _LATEST) -> list[LoopRun]:
    return [_loop_run(record) for record in instance.get_run_records(runs_filter, limit=count)]


def _loop_run(record: dg.RunRecord) -> LoopRun:
    run = record.dagster_run
    kind = run.tags.get(KIND_TAG)
    only = run.tags.get(PARTITION_NAME_TAG, "")
    return LoopRun(
        run_id=run.run_id,
        kind=RunKind(kind) if kind in set(RunKind) else None,
        status=run.status,
        created_at=record.create_timestamp.astimezone(UTC),
        ended_at=_end_time(record),
        first=run.tags.get(ASSET_PARTITION_RANGE_START_TAG, only),
        last=run.tags.get(ASSET_PARTITION_RANGE_END_TAG, only),
        assets=frozenset(key.to_user_string() for key in run.asset_selection or ()),
        tags=dict(run.tags),
    )


def _end_time(record: dg.RunRecord) -> datetime | None:
    if not record.dagster_run.is_finished:
        return None
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp.astimezone(UTC)
