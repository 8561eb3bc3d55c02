"""The sensors: new rows become refreshed windows, refreshed windows become a retraining. Each tick gives its reason.

At most one refresh of the sensor is in flight: rows that arrive meanwhile are handled by the next tick, together. So a hundred
thousand outcomes at once are one run, and the cursor moves only with the request that its rows have caused. What comes after a
run (features that look back at what it has read anew, what it failed to do) is planned from the store and the run history.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from bid_assets.app_db.contract import ContractError
from bid_assets.common.windows import utc_now
from bid_assets.orchestration.first_window import with_first_window
from bid_assets.orchestration.jobs import REFRESH_JOB, RETRAIN_JOB, PlannedRefresh, run_request
from bid_assets.orchestration.refresh.planning import (
    lookback_windows,
    plan_refreshes,
    read_windows,
    stale_features,
    windows_in_reach,
)
from bid_assets.orchestration.retraining.policy import RetrainingRules, decide, in_words, pause_after
from bid_assets.orchestration.retraining.state import gather_state
from bid_assets.orchestration.run_history import (
    ATTEMPT_TAG,
    NEW_OUTCOMES_SENSOR,
    OUTCOMES_TAG,
    REASON_TAG,
    REFRESH_KINDS,
    LoopRun,
    finished_runs,
    new_outcomes_cursor,
    refreshes_in_flight,
    repetitions,
    unresolved_failures,
)
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore


def sensors(settings: Settings, store: VersionStore) -> list[dg.SensorDefinition]:
    """All sensors; they are on as soon as a daemon runs."""
    return [
        _new_outcomes_sensor(settings, store),
        _reconciliation_sensor(settings, store),
        _retraining_sensor(settings, store),
    ]


def _new_outcomes_sensor(settings: Settings, store: VersionStore) -> dg.SensorDefinition:
    stale_check = _StaleCheck(settings, store)

    @dg.sensor(
        name=NEW_OUTCOMES_SENSOR,
        job_name=REFRESH_JOB,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Follows bid_outcomes and bids; asks for the windows whose rows are new, for features that look back at "
        "them, and again for what failed.",
    )
    def new_outcomes_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from bid_assets.orchestration.refresh.change_detection import detect_new_rows

        if running := refreshes_in_flight(context.instance):
            reason = f"refresh run {running[0].run_id[:8]} is in flight; new rows are looked for after it"
            return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
        ended = finished_runs(context.instance, REFRESH_KINDS)
        failures = unresolved_failures(ended, _first_key(settings, store))
        stale, paused = stale_check.due_refreshes(ended, failures)
        if stale:
            return _result(context, settings, stale, context.cursor or "", paused)
        try:
            changes = detect_new_rows(settings, store, context.cursor)
        except ContractError as error:
            return _skip_on_contract_error(context, error)
        for warning in changes.warnings:
            context.log.warning(warning)
        retries, pauses = _retries(settings, store, failures)
        new = _refreshes_of_changes(settings, store, changes.windows)
        planned = new + [each for each in retries if not any(other.refresh.covers(each.refresh) for other in new)]
        skip_reason = "; ".join([*paused, *pauses]) or "no bid and no outcome is new"
        return _result(context, settings, planned, changes.cursor, [skip_reason])

    return new_outcomes_sensor


def _reconciliation_sensor(settings: Settings, store: VersionStore) -> dg.SensorDefinition:
    @dg.sensor(
        job_name=REFRESH_JOB,
        minimum_interval_seconds=max(5, round(60 * settings.reconciliation_interval_minutes)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares every window with what the store has read of it, and all features with the raw versions of now: "
        "finds edits, deletions, back-dated rows, and whatever was left undone.",
    )
    def reconciliation_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from bid_assets.orchestration.refresh.change_detection import reconcile

        before = refreshes_in_flight(context.instance)  # one of them may end while everything is being compared
        try:
            changes = reconcile(settings, store, new_outcomes_cursor(context.instance))
        except ContractError as error:
            return _skip_on_contract_error(context, error)
        for warning in changes.warnings:
            context.log.warning(warning)
        running = [*before, *refreshes_in_flight(context.instance)]
        failures = unresolved_failures(finished_runs(context.instance, REFRESH_KINDS), _first_key(settings, store))
        # what these read is not asked for beside them; if they read it before it changed, the next comparison finds it
        covered = {key for run in (*running, *failures) if run.refresh.reads_raw for key in run.refresh.keys(settings.cadence)}
        changed = {table: keys - covered for table, keys in changes.windows.items() if keys - covered}
        planned = _refreshes_of_changes(settings, store, changed)
        if not changes.windows and not running and not failures:
            planned = _stale_refreshes(settings, store, read_windows(store))
        return _result(context, settings, planned, "", ["every window is as the store has read it"])

    return reconciliation_sensor


def _retraining_sensor(settings: Settings, store: VersionStore) -> dg.SensorDefinition:
    @dg.sensor(
        job_name=RETRAIN_JOB,
        minimum_interval_seconds=settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks the retraining policy whether a new model is due, and says what it answered.",
    )
    def retraining_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        state = gather_state(context.instance, store, settings)
        decision = decide(
            state, RetrainingRules.of(settings)
        )  # its reason is the cursor as well: the list of ticks shows cursors only
        if decision.slow:
            context.log.error(decision.reason)
        if decision.action == "wait" or state.window is None:
            return dg.SensorResult(skip_reason=decision.reason, cursor=decision.reason)
        now = with_first_window(settings, store)
        if stale := stale_features(now, store, (), lookback_windows(now, store, state.window)):
            reason = f"{decision.reason}; but first {_stale_in_words(stale)}"
            return dg.SensorResult(skip_reason=reason, cursor=reason)
        context.log.info(decision.reason)
        tags = {
            REASON_TAG: decision.reason,
            ATTEMPT_TAG: str(decision.attempt),
            OUTCOMES_TAG: str(state.outcomes_since_active_model),
        }
        since = state.last_attempt_at.isoformat() if state.last_attempt_at else "never"
        request = dg.RunRequest(
            run_key=f"{state.window} after {since}, attempt {decision.attempt}", partition_key=state.window, tags=tags
        )
        return dg.SensorResult(run_requests=[request], cursor=decision.reason)

    return retraining_sensor


class _StaleCheck:
    """Finds features that a refresh has left stale: once after each that has ended, and of all windows in a new process.

    A new process may have other code or settings. What another one leaves behind later is found by the reconciliation.
    """

    def __init__(self, settings: Settings, store: VersionStore) -> None:
        self._settings = settings
        self._store = store
        self._clean_until: str | None = None
        """The newest refresh (run id) after which nothing was stale; empty: there was none."""

    def due_refreshes(self, ended: Sequence[LoopRun], failures: Sequence[LoopRun]) -> tuple[list[PlannedRefresh], list[str]]:
        """The refreshes that are due, and words about those that were in vain and are paused. `ended`: newest first."""
        newest = ended[0].run_id if ended else ""
        if newest == self._clean_until:
            return [], []
        planned = _stale_refreshes(self._settings, self._store, self._windows(ended))
        planned = [each for each in planned if not any(run.refresh.covers(each.refresh) for run in failures)]
        if not planned:
            self._clean_until = newest
        due, paused = [], []
        for each in planned:
            same = repetitions(ended, each.refresh)
            left = _pause_left(self._settings, same)
            if left is None:
                due.append(PlannedRefresh(each.refresh, each.reason, len(same) + 1))
            else:
                paused.append(f"{each.reason}, though run {same[0].run_id[:8]} has computed them; again in {left}")
        return due, paused

    def _windows(self, ended: Sequence[LoopRun]) -> set[str]:
        """The windows that may have become stale since the last check."""
        run_ids = [run.run_id for run in ended]
        if self._clean_until not in run_ids:
            return read_windows(self._store)
        since = ended[: run_ids.index(self._clean_until)]
        return windows_in_reach(self._settings, [run.refresh for run in since]) & read_windows(self._store)


def _skip_on_contract_error(context: dg.SensorEvaluationContext, error: ContractError) -> dg.SensorResult:
    """The cursor stays: once the tables fit the contract, everything is seen."""
    context.log.error(str(error))
    return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)


def _refreshes_of_changes(settings: Settings, store: VersionStore, changed: dict[str, set[str]]) -> list[PlannedRefresh]:
    if not changed:
        return []
    reason = "; ".join(f"{table} changed in {_windows_in_words(keys)}" for table, keys in sorted(changed.items()))
    return [PlannedRefresh(refresh, reason) for refresh in plan_refreshes(settings, store, changed)]


def _stale_refreshes(settings: Settings, store: VersionStore, check: set[str]) -> list[PlannedRefresh]:
    reason = "features are absent, or not made from the raw tables, code and settings of now"
    return [PlannedRefresh(refresh, reason) for refresh in plan_refreshes(settings, store, {}, check=check)]


def _retries(settings: Settings, store: VersionStore, failures: Sequence[LoopRun]) -> tuple[list[PlannedRefresh], list[str]]:
    """The failed refreshes whose pause is over, and words about those that still wait."""
    planned, paused = [], []
    for run in failures:
        left = _pause_left(settings, [run], run.attempt)
        if left is not None:
            slow = f" after {run.attempt} attempts" if run.attempt >= settings.max_attempts else ""
            paused.append(
                f"refresh run {run.run_id[:8]} of {run.first} to {run.last} failed{slow}; it is tried again in {left}"
            )
            continue
        missing = []  # raw tables that its features look back at
        if run.refresh.families:
            first_stage = plan_refreshes(settings, store, {"failed run": run.refresh.keys(settings.cadence)})
            missing = [each for each in first_stage if not each.families]
        reason = f"run {run.run_id[:8]} failed"
        planned += [PlannedRefresh(refresh, reason, run.attempt + 1) for refresh in missing or [run.refresh]]
    return planned, paused


def _pause_left(settings: Settings, runs: Sequence[LoopRun], attempts: int | None = None) -> str | None:
    """How long, in words, until what these runs (newest first) did not achieve is due again; None: it is due."""
    if not runs or runs[0].ended_at is None:
        return None
    rules = RetrainingRules.of(settings)
    left = runs[0].ended_at + pause_after(attempts or len(runs), rules) - utc_now()
    return in_words(left) if left.total_seconds() > 0 else None


def _result(
    context: dg.SensorEvaluationContext,
    settings: Settings,
    planned: Sequence[PlannedRefresh],
    cursor: str,
    skip_reasons: Sequence[str],
) -> dg.SensorResult:
    """Run requests for what is planned, or why there are none."""
    if not planned:
        return dg.SensorResult(skip_reason="; ".join(skip_reasons), cursor=cursor)
    for each in planned:
        context.log.info(f"{each.refresh.first} to {each.refresh.last}: {each.reason}")
    return dg.SensorResult(run_requests=[run_request(settings, each) for each in planned], cursor=cursor)


def _first_key(settings: Settings, store: VersionStore) -> str:
    return settings.cadence.key(with_first_window(settings, store).first_moment)


def _stale_in_words(stale: dict[str, list[str]]) -> str:
    keys = {key for windows in stale.values() for key in windows}
    return f"{', '.join(sorted(stale))} of {_windows_in_words(keys)} must be made from the raw tables of now"


def _windows_in_words(keys: set[str]) -> str:
    ordered = sorted(keys)
    return f"window {ordered[0]}" if len(ordered) == 1 else f"{len(ordered)} windows ({ordered[0]} to {ordered[-1]})"
