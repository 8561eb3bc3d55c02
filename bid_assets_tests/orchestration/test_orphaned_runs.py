from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import dagster as dg
from dagster._core.events import EngineEventData

from bid_assets.orchestration.orphaned_runs import fail_orphans, fail_unstarted


def run_in(instance: dg.DagsterInstance, process: int | None) -> str:
    """A run that goes on in this process, or one that has not begun."""
    status = dg.DagsterRunStatus.STARTING if process is None else dg.DagsterRunStatus.STARTED
    run = dg.DagsterRun(job_name="job", run_id=str(uuid4()), status=status)
    instance.add_run(run)
    if process is not None:
        instance.report_engine_event("Started", run, EngineEventData.in_process(process))
    return run.run_id


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_whose_process_is_gone_is_marked_as_failed_and_one_that_lives_is_not(
    dagster_instance: dg.DagsterInstance,
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone, alive = run_in(dagster_instance, dead.pid), run_in(dagster_instance, os.getpid())
    assert fail_orphans(dagster_instance) == [gone]
    assert status_of(dagster_instance, gone) is dg.DagsterRunStatus.FAILURE
    assert status_of(dagster_instance, alive) is dg.DagsterRunStatus.STARTED


def test_a_run_that_never_began_is_marked_as_failed_when_no_code_server_is_there(dagster_instance: dg.DagsterInstance) -> None:
    waiting, alive = run_in(dagster_instance, None), run_in(dagster_instance, os.getpid())
    assert fail_orphans(dagster_instance) == []
    assert fail_unstarted(dagster_instance, after=timedelta(0)) == [waiting]
    assert status_of(dagster_instance, alive) is dg.DagsterRunStatus.STARTED


def test_a_run_that_is_just_beginning_is_given_the_time_to(dagster_instance: dg.DagsterInstance) -> None:
    beginning = run_in(dagster_instance, None)
    assert fail_unstarted(dagster_instance, after=timedelta(minutes=1)) == []
    assert status_of(dagster_instance, beginning) is dg.DagsterRunStatus.STARTING
