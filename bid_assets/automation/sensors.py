"""The sensors: new rows become refreshed windows, refreshed windows become a retraining. Each says on its tick what it saw.

At most one refresh of the sensor's own is in flight: what lands meanwhile is seen by the next tick, together. So a hundred
thousand outcomes at once are one run, and the cursor moves only with the request that its rows have caused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from bid_assets.app_db.contract import ContractError
from bid_assets.assets.raw import RAW_ASSETS
from bid_assets.automation.jobs import REFRESH, RETRAINING
from bid_assets.automation.refreshing import Refresh, plan
from bid_assets.automation.retraining_policy import Rules, decide, in_words, pause_after
from bid_assets.automation.run_history import (
    ATTEMPT_TAG,
    FOLLOWER,
    OUTCOMES_TAG,
    REASON_TAG,
    REFRESHING,
    LoopRun,
    finished,
    following_cursor,
    not_made_good,
    refreshes_in_flight,
)
from bid_assets.automation.state import gather
from bid_assets.features.families import families
from bid_assets.runs import partition_tags
from bid_assets.settings import Settings
from bid_assets.versions.store import VersionStore
from bid_assets.windows import TimeRange, utc_now


@dataclass(frozen=True)
class Wanted:
    """A refresh, why, and which attempt at it this is."""

    refresh: Refresh
    reason: str
    attempt: int = 1


def sensors(settings: Settings, store: VersionStore) -> list[dg.SensorDefinition]:
    """All sensors; they are on as soon as a daemon runs."""
    return [
        _new_outcomes_sensor(settings, store),
        _reconciliation_sensor(settings, store),
        _retraining_sensor(settings, store),
    ]


def _new_outcomes_sensor(settings: Settings, store: VersionStore) -> dg.SensorDefinition:
    @dg.sensor(
        name=FOLLOWER,
        job_name=REFRESH,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Follows bid_outcomes and bids; asks for the windows whose rows are new, and again for those that failed.",
    )
    def new_outcomes_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from bid_assets.automation.noticing import follow

        if running := refreshes_in_flight(context.instance):
            told = f"refresh run {running[0].run_id[:8]} is in flight; what lands meanwhile is noticed after it"
            return dg.SensorResult(skip_reason=told, cursor=context.cursor)
        try:
            noticed = follow(settings, store, context.cursor)
        except ContractError as error:
            return _unreadable(context, error)
        for remark in noticed.remarks:
            context.log.warning(remark)
        again, told = _failed_before(context.instance, settings)
        new = _planned(settings, store, noticed.touched)
        wanted = new + [each for each in again if not any(other.refresh.covers(each.refresh) for other in new)]
        return _asked(context, settings, wanted, noticed.cursor, told or "no bid and no outcome is new")

    return new_outcomes_sensor


def _reconciliation_sensor(settings: Settings, store: VersionStore) -> dg.SensorDefinition:
    @dg.sensor(
        job_name=REFRESH,
        minimum_interval_seconds=max(5, round(60 * settings.reconciliation_interval_minutes)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares every window with what the store has read of it: finds edits, deletions and back-dated rows.",
    )
    def reconciliation_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from bid_assets.automation.noticing import reconcile

        before = refreshes_in_flight(context.instance)  # one of them may end while everything is being compared
        try:
            noticed = reconcile(settings, store, context.cursor, following_cursor(context.instance))
        except ContractError as error:
            return _unreadable(context, error)
        for remark in noticed.remarks:
            context.log.warning(remark)
        running = [run.refresh for run in (*before, *refreshes_in_flight(context.instance))]
        planned = _planned(settings, store, noticed.touched)
        wanted = [each for each in planned if not any(refresh.covers(each.refresh) for refresh in running)]
        # what is left to a run in flight is not asked for: it may have read these windows before they changed
        cursor = noticed.cursor if len(wanted) == len(planned) else context.cursor or "{}"
        return _asked(context, settings, wanted, cursor, "every window is as the store has read it")

    return reconciliation_sensor


def _retraining_sensor(settings: Settings, store: VersionStore) -> dg.SensorDefinition:
    @dg.sensor(
        job_name=RETRAINING,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks the retraining policy whether a new model is due, and says what it answered.",
    )
    def retraining_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        state = gather(context.instance, store, settings)
        decision = decide(state, Rules.of(settings))  # its reason is the cursor as well: the list of ticks shows cursors only
        if decision.action == "give up":
            raise dg.Failure(description=decision.reason)
        if decision.action == "wait" or state.window is None:
            return dg.SensorResult(skip_reason=decision.reason, cursor=decision.reason)
        context.log.info(decision.reason)
        tags = {REASON_TAG: decision.reason, ATTEMPT_TAG: str(decision.attempt), OUTCOMES_TAG: str(state.new_outcomes)}
        since = state.last_attempt_at.isoformat() if state.last_attempt_at else "never"
        request = dg.RunRequest(
            run_key=f"{state.window} after {since}, attempt {decision.attempt}", partition_key=state.window, tags=tags
        )
        return dg.SensorResult(run_requests=[request], cursor=decision.reason)

    return retraining_sensor


def _unreadable(context: dg.SensorEvaluationContext, error: ContractError) -> dg.SensorResult:
    """The cursor stays: once the tables fit the contract, everything is seen."""
    context.log.error(str(error))
    return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)


def _planned(settings: Settings, store: VersionStore, touched: dict[str, set[str]]) -> list[Wanted]:
    told = "; ".join(f"{table} changed in {_windows_in_words(keys)}" for table, keys in sorted(touched.items()))
    present = store.partitions("raw_bids") if touched else ()
    return [Wanted(refresh, told) for refresh in plan(touched, present, families(), settings.cadence)]


def _failed_before(instance: dg.DagsterInstance, settings: Settings) -> tuple[list[Wanted], str]:
    """The failed refreshes whose pause is over, and words about those that still wait or were given up."""
    wanted, told = [], []
    rules = Rules.of(settings)
    for run in not_made_good(finished(instance, REFRESHING)):
        if run.attempt >= rules.max_attempts:
            told.append(_given_up(run))
            continue
        assert run.ended_at is not None
        left = run.ended_at + pause_after(run.attempt, rules.first_pause) - utc_now()
        if left.total_seconds() > 0:
            told.append(f"refresh run {run.run_id[:8]} failed; it is tried again in {in_words(left)}")
        else:
            wanted.append(Wanted(run.refresh, f"run {run.run_id[:8]} failed", run.attempt + 1))
    return wanted, "; ".join(told)


def _given_up(run: LoopRun) -> str:
    return (
        f"GIVEN UP after {run.attempt} attempts: windows {run.first} to {run.last} could not be refreshed (run {run.run_id[:8]}). "
        f"Mend the cause, then `bid-assets run --from {run.first} --to {run.last}`"
    )


def _asked(
    context: dg.SensorEvaluationContext, settings: Settings, wanted: Sequence[Wanted], cursor: str, otherwise: str
) -> dg.SensorResult:
    """Run requests for what is wanted, or why there are none."""
    if "GIVEN UP" in otherwise:
        context.log.error(otherwise)
    if not wanted:
        return dg.SensorResult(skip_reason=otherwise, cursor=cursor)
    for each in wanted:
        context.log.info(f"{each.refresh.first} to {each.refresh.last}: {each.reason}")
    return dg.SensorResult(run_requests=[_request(settings, each) for each in wanted], cursor=cursor)


def _request(settings: Settings, wanted: Wanted) -> dg.RunRequest:
    """Without a run key: a key is used up for ever, and rows may come, go and come again. Dagster saves requests and cursor of a
    tick together before it starts a run, so none is lost or doubled."""
    refresh, cadence = wanted.refresh, settings.cadence
    keys = cadence.keys(TimeRange(cadence.window(refresh.first).start, cadence.window(refresh.last).end))
    tags = {REASON_TAG: wanted.reason, ATTEMPT_TAG: str(wanted.attempt)}
    return dg.RunRequest(
        partition_key=keys[0] if len(keys) == 1 else None,
        asset_selection=[dg.AssetKey(name) for name in (*RAW_ASSETS, *sorted(refresh.families))],
        tags=tags if len(keys) == 1 else {**tags, **partition_tags(keys)},
    )


def _windows_in_words(keys: set[str]) -> str:
    ordered = sorted(keys)
    return f"window {ordered[0]}" if len(ordered) == 1 else f"{len(ordered)} windows ({ordered[0]} to {ordered[-1]})"
