"""What happens by the clock: the open window every night, and a window's final version when it has ended."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

from bid_assets.app_db.connections import DatabaseUnreachableError
from bid_assets.app_db.database import prediction_db_url
from bid_assets.common.windows import Cadence, TimeRange, as_utc
from bid_assets.orchestration.assets.predictions import RAW_PREDICTIONS
from bid_assets.orchestration.in_process_runs import partition_tags
from bid_assets.orchestration.jobs import CLOSE_WINDOW_JOB, READ_PREDICTIONS_JOB, REFRESH_JOB, PlannedRefresh, run_request
from bid_assets.orchestration.lookback import dataset_lookback
from bid_assets.orchestration.refresh.planning import plan_refreshes
from bid_assets.orchestration.run_history import ATTEMPT_TAG, REASON_TAG
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

NIGHTLY = "0 2 * * *"
NIGHTLY_PREDICTIONS = "30 2 * * *"
CLOSE = {Cadence.WEEKLY: "15 0 * * 1", Cadence.DAILY: "15 0 * * *"}
"""A quarter of an hour after a window has ended: what was committed late is there by then."""


def schedules(settings: Settings, store: VersionStore) -> list[dg.ScheduleDefinition]:
    """All schedules, in UTC; they are on as soon as a daemon runs."""
    return [_nightly(settings, store), _closing(settings, store), _predictions(settings, store)]


def _nightly(settings: Settings, store: VersionStore) -> dg.ScheduleDefinition:
    @dg.schedule(
        job_name=REFRESH_JOB,
        cron_schedule=NIGHTLY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Reads the open window again, whether or not a change was detected.",
    )
    def nightly_refresh(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        now = _time_of(context)
        window = settings.cadence.key(now)
        if asleep := _asleep(settings, store, window):
            return dg.SkipReason(asleep)
        night = f"the night of {now:%Y-%m-%d}"
        return [
            run_request(settings, PlannedRefresh(refresh, night), run_key=f"{night}, {refresh.first}")
            for refresh in plan_refreshes(settings, store, {"bids": [window]})
        ]

    return nightly_refresh


def _closing(settings: Settings, store: VersionStore) -> dg.ScheduleDefinition:
    @dg.schedule(
        job_name=CLOSE_WINDOW_JOB,
        cron_schedule=CLOSE[settings.cadence],
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="The final version of a window that has ended, and a retraining on it.",
    )
    def close_window_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = _time_of(context)
        window = settings.cadence.key(now - settings.cadence.length)
        if asleep := _asleep(settings, store, window):
            return dg.SkipReason(asleep)
        return dg.RunRequest(
            run_key=f"close {window}", partition_key=window, tags={REASON_TAG: f"window {window} has ended", ATTEMPT_TAG: "1"}
        )

    return close_window_schedule


def _predictions(settings: Settings, store: VersionStore) -> dg.ScheduleDefinition:
    @dg.schedule(
        job_name=READ_PREDICTIONS_JOB,
        cron_schedule=NIGHTLY_PREDICTIONS,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Reads the predictions of the open window, and of those that have ended since they were read.",
    )
    def nightly_predictions(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from bid_assets.prediction_log.reader import open_prediction_reader

        now, cadence = _time_of(context), settings.cadence
        try:
            with open_prediction_reader(prediction_db_url(settings)) as predictions:
                oldest, _ = predictions.time_range()
        except DatabaseUnreachableError as error:
            return dg.SkipReason(f"{error}; what is missed tonight is read the next night")
        if oldest is None:
            return dg.SkipReason("no prediction has been remembered yet")
        newest_read = max(store.partitions(RAW_PREDICTIONS), default=cadence.key(oldest))
        # one that ended yesterday is read again in any case: somebody may have read the open one since
        first = max(min(newest_read, cadence.key(now - timedelta(days=2))), cadence.key(max(oldest, settings.first_moment)))
        keys = cadence.keys(TimeRange(cadence.window(first).start, cadence.window(cadence.key(now)).end))
        night = f"the night of {now:%Y-%m-%d}"
        return dg.RunRequest(
            run_key=night,
            partition_key=keys[0] if len(keys) == 1 else None,
            tags={REASON_TAG: night, **(partition_tags(keys) if len(keys) > 1 else {})},
        )

    return nightly_predictions


def _time_of(context: dg.ScheduleEvaluationContext) -> datetime:
    """The moment that the tick is for; one that was slept through is caught up later."""
    return as_utc(context.scheduled_execution_time)


def _asleep(settings: Settings, store: VersionStore, window: str) -> str | None:
    """Why nothing is to be done for `window`: nothing was read yet, or nothing for as long as a dataset looks back."""
    newest = max(store.partitions("raw_bids"), default=None)
    if newest is None:
        return "nothing has been read from the application's database yet"
    silent = settings.cadence.window(window).start - settings.cadence.window(newest).start
    if silent > dataset_lookback(settings, store, newest) * settings.cadence.length:
        return f"the newest window that was read is {newest}: the market has been silent since"
    return None
