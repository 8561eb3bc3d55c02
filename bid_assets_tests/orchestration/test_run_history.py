from __future__ import annotations

from uuid import uuid4

import dagster as dg
import pytest

from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.in_process_runs import partition_tags
from bid_assets.orchestration.run_history import (
    ATTEMPT_TAG,
    KIND_TAG,
    REASON_TAG,
    RETRAINING_KINDS,
    RunKind,
    failure_message,
    failures_in_a_row,
    finished_runs,
    latest_runs,
    refreshes_in_flight,
    retrainings_in_flight,
    unresolved_failures,
)

REFRESH = [RunKind.REFRESH]
HISTORY = "profile_historical_features"


def run_of(
    instance: dg.DagsterInstance,
    kind: RunKind | None,
    outcome: str,
    *keys: str,
    assets: tuple[str, ...] = (),
    attempt: int | None = 1,
) -> str:
    """A run as the loop would have started it, which ended as `outcome` says."""
    tags = {} if kind is None else {KIND_TAG: kind.value}
    run = dg.DagsterRun(
        job_name="job",
        run_id=str(uuid4()),
        tags={**tags, **partition_tags(keys or ["2026-11-16"]), **({ATTEMPT_TAG: str(attempt)} if attempt else {})},
        asset_selection=frozenset(dg.AssetKey(name) for name in assets) or None,
        status=dg.DagsterRunStatus.NOT_STARTED if outcome == "queued" else dg.DagsterRunStatus.STARTED,
    )
    instance.add_run(run)
    if outcome == "failed":
        instance.report_run_failed(run, "the machine burned")
    elif outcome == "succeeded":
        instance.report_dagster_event(
            dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name="job", message=""), run.run_id
        )
    elif outcome == "canceled":
        instance.report_run_canceled(run)
    return run.run_id


def test_runs_in_flight_are_known_by_their_kind_or_by_their_assets(dagster_instance: dg.DagsterInstance) -> None:
    ours = run_of(dagster_instance, RunKind.REFRESH, "queued")
    by_hand = run_of(dagster_instance, None, "running", assets=("raw_bids",))
    training = run_of(dagster_instance, None, "running", assets=("trained_model",))
    run_of(dagster_instance, RunKind.REFRESH, "succeeded")
    run_of(dagster_instance, None, "running", assets=("something_else",))
    assert {run.run_id for run in refreshes_in_flight(dagster_instance)} == {ours, by_hand}
    assert {run.run_id for run in retrainings_in_flight(dagster_instance)} == {training}


def test_a_run_that_is_only_queued_has_not_begun(dagster_instance: dg.DagsterInstance) -> None:
    for outcome in ("queued", "running"):
        run_of(dagster_instance, RunKind.REFRESH, outcome)
    assert [run.is_executing for run in refreshes_in_flight(dagster_instance)] == [True, False]


def test_closing_a_window_is_both_a_refresh_and_a_retraining(dagster_instance: dg.DagsterInstance) -> None:
    closing = run_of(dagster_instance, RunKind.CLOSING, "running")
    assert [run.run_id for run in refreshes_in_flight(dagster_instance)] == [closing]
    assert [run.run_id for run in retrainings_in_flight(dagster_instance)] == [closing]


def test_failures_are_counted_since_the_last_success(dagster_instance: dg.DagsterInstance) -> None:
    run_of(dagster_instance, RunKind.RETRAINING, "failed")
    run_of(dagster_instance, RunKind.RETRAINING, "succeeded")
    first = run_of(dagster_instance, RunKind.RETRAINING, "failed")
    run_of(dagster_instance, RunKind.RETRAINING, "canceled")
    second = run_of(dagster_instance, RunKind.CLOSING, "failed")
    failed = failures_in_a_row(finished_runs(dagster_instance, RETRAINING_KINDS))
    assert [run.run_id for run in failed] == [second, first]


def test_what_people_start_by_hand_is_not_tried_again(dagster_instance: dg.DagsterInstance) -> None:
    run_of(dagster_instance, RunKind.REFRESH, "failed", attempt=None)
    assert unresolved_failures(finished_runs(dagster_instance, REFRESH)) == []


def test_a_failed_refresh_is_made_good_by_a_later_one_that_covers_it(dagster_instance: dg.DagsterInstance) -> None:
    both = (*RAW_ASSETS, HISTORY)
    run_of(dagster_instance, RunKind.REFRESH, "failed", "2026-11-09", "2026-11-16", assets=both)
    run_of(dagster_instance, RunKind.REFRESH, "succeeded", "2026-11-02", "2026-11-16", assets=both)
    assert unresolved_failures(finished_runs(dagster_instance, REFRESH)) == []


@pytest.mark.parametrize(
    ("keys", "assets"),
    [(["2026-11-16"], (*RAW_ASSETS, HISTORY)), (["2026-11-09", "2026-11-16"], (*RAW_ASSETS, "profile_features"))],
)
def test_a_later_refresh_of_less_does_not_make_it_good(
    dagster_instance: dg.DagsterInstance, keys: list[str], assets: tuple[str, ...]
) -> None:
    failed = run_of(dagster_instance, RunKind.REFRESH, "failed", "2026-11-09", "2026-11-16", assets=(*RAW_ASSETS, HISTORY))
    run_of(dagster_instance, RunKind.REFRESH, "succeeded", *keys, assets=assets)
    assert [run.run_id for run in unresolved_failures(finished_runs(dagster_instance, REFRESH))] == [failed]


def test_a_second_attempt_that_fails_stands_for_the_first(dagster_instance: dg.DagsterInstance) -> None:
    run_of(dagster_instance, RunKind.REFRESH, "failed")
    run_of(dagster_instance, RunKind.REFRESH, "failed", attempt=2)
    [run] = unresolved_failures(finished_runs(dagster_instance, REFRESH))
    assert run.attempt == 2


def test_the_reason_of_a_failure_is_one_line(dagster_instance: dg.DagsterInstance) -> None:
    run_id = run_of(dagster_instance, RunKind.REFRESH, "failed")
    assert "the machine burned" in failure_message(dagster_instance, run_id)


def test_the_latest_runs_come_with_windows_and_reason(dagster_instance: dg.DagsterInstance) -> None:
    run_of(dagster_instance, RunKind.REFRESH, "succeeded", "2026-11-02", "2026-11-16")
    newest = run_of(dagster_instance, RunKind.RETRAINING, "running")
    found = latest_runs(dagster_instance, list(RunKind), 10)
    assert found[0].run_id == newest
    assert [(run.first, run.last) for run in found] == [("2026-11-16", "2026-11-16"), ("2026-11-02", "2026-11-16")]
    assert REASON_TAG not in found[0].tags
