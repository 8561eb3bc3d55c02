"""The jobs that sensors and schedules start, and the request for a refresh. Tags say what a run is for, so that the loop knows
its own runs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import dagster as dg

from bid_assets.orchestration.assets.predictions import RAW_PREDICTIONS
from bid_assets.orchestration.in_process_runs import partition_tags
from bid_assets.orchestration.refresh.run_ranges import Refresh
from bid_assets.orchestration.run_history import (
    ATTEMPT_TAG,
    KIND_TAG,
    REASON_TAG,
    REFRESH_ASSETS,
    RETRAINING_ASSETS,
    RunKind,
    assets_of,
)
from bid_assets.settings import Settings

# `close_window` has assets of both policies; it is only ever started for one window, where policies say nothing.
warnings.filterwarnings("ignore", message=r"Asset job \S+ materializes assets with varying BackfillPolicies")

REFRESH_JOB, RETRAIN_JOB, CLOSE_WINDOW_JOB, READ_PREDICTIONS_JOB = (
    "refresh_windows",
    "retrain",
    "close_window",
    "read_predictions",
)


def jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """One job for each kind of run."""

    def job(name: str, kind: RunKind, assets: list[str], description: str) -> dg.UnresolvedAssetJobDefinition:
        return dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*assets),
            tags={KIND_TAG: kind.value},
            description=description,
        )

    return [
        job(
            REFRESH_JOB,
            RunKind.REFRESH,
            list(REFRESH_ASSETS),
            "Raw tables and features of the windows whose rows have changed.",
        ),
        job(
            RETRAIN_JOB,
            RunKind.RETRAINING,
            list(RETRAINING_ASSETS),
            "Dataset, model, report and decision of the newest window.",
        ),
        job(
            CLOSE_WINDOW_JOB,
            RunKind.CLOSING,
            [*REFRESH_ASSETS, *RETRAINING_ASSETS],
            "A window that has ended: its final versions, and a retraining.",
        ),
        dg.define_asset_job(
            READ_PREDICTIONS_JOB,
            selection=dg.AssetSelection.assets(RAW_PREDICTIONS),
            description="What the service has predicted; not a part of the loop.",
        ),
    ]


@dataclass(frozen=True)
class PlannedRefresh:
    """A refresh, why, and which attempt at it this is."""

    refresh: Refresh
    reason: str
    attempt: int = 1


def run_request(settings: Settings, planned: PlannedRefresh, run_key: str | None = None) -> dg.RunRequest:
    """The request for a run of `refresh_windows`.

    Sensors give no run key: a key is used up for ever, and rows may come, go and come again. Dagster saves requests and cursor
    of a tick together before it starts a run, so none is lost or doubled.
    """
    keys = planned.refresh.keys(settings.cadence)
    tags = {REASON_TAG: planned.reason, ATTEMPT_TAG: str(planned.attempt)}
    return dg.RunRequest(
        run_key=run_key,
        partition_key=keys[0] if len(keys) == 1 else None,
        asset_selection=[dg.AssetKey(name) for name in assets_of(planned.refresh)],
        tags=tags if len(keys) == 1 else {**tags, **partition_tags(keys)},
    )
