"""Orphaned runs: their process is gone, though Dagster believes that they go on. They would keep the loop waiting for ever.

A code server reports the death of a run's process while it lives; nobody does when both die (a power cut, SIGKILL of all).
Processes can only be looked for on this machine, so this is for an instance that nobody shares.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import dagster as dg
import psutil

from bid_assets.common.windows import as_utc, utc_now

UNSTARTED_AFTER = timedelta(minutes=1)
"""How long the process of a run may take to report its start."""

_RUNNING = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


def fail_orphaned_runs(
    instance: dg.DagsterInstance, report: Callable[[str, str], None], unstarted_after: timedelta = UNSTARTED_AFTER
) -> None:
    """Mark runs as failed whose process is gone, or never came; `report` takes the name of a run and a line."""
    for run_id in [*fail_orphans(instance), *fail_unstarted(instance, after=unstarted_after)]:
        report(f"run {run_id[:8]}", "has no process; it is marked as failed")


def fail_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Mark the runs whose process has died as failed, and say which."""
    orphans = []
    for run in instance.get_runs(dg.RunsFilter(statuses=list(_RUNNING))):
        processes = _processes(instance, run.run_id)
        if processes and not any(psutil.pid_exists(process) for process in processes):
            instance.report_run_failed(run, f"its process ({', '.join(map(str, processes))}) is gone")
            orphans.append(run.run_id)
    return orphans


def fail_unstarted(instance: dg.DagsterInstance, after: timedelta) -> list[str]:
    """Mark the runs as failed that were to begin so long ago and have not: their code server is gone, or the daemon was
    killed while it handed them over."""
    records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
    late = [record.dagster_run for record in records if as_utc(record.update_timestamp) <= utc_now() - after]
    unstarted = [run for run in late if not _processes(instance, run.run_id)]
    for run in unstarted:
        instance.report_run_failed(run, "it was handed to a code server and never began")
    return [run.run_id for run in unstarted]


def _processes(instance: dg.DagsterInstance, run_id: str) -> list[int]:
    """The process ids in the engine events of the run."""
    process_ids = []
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=20).records:
        event = record.event_log_entry.dagster_event
        if event is not None and "pid" in event.engine_event_data.metadata:
            process_ids.append(int(str(event.engine_event_data.metadata["pid"].value)))
    return process_ids
