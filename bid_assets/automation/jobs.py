"""The jobs that sensors and schedules start. Their tags say what a run is for, so that the loop knows its own runs."""

from __future__ import annotations

import warnings

import dagster as dg

from bid_assets.assets.predictions import RAW_PREDICTIONS
from bid_assets.automation.run_history import DECIDING, KIND_TAG, REFRESHED, Kind

# `close_window` has assets of both policies; it is only ever started for one window, where policies say nothing.
warnings.filterwarnings("ignore", message=r"Asset job \S+ materializes assets with varying BackfillPolicies")

REFRESH, RETRAINING, CLOSING, PREDICTIONS = "refresh_windows", "retrain", "close_window", "read_predictions"


def jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """One job for each kind of run."""

    def job(name: str, kind: Kind, assets: list[str], description: str) -> dg.UnresolvedAssetJobDefinition:
        return dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*assets),
            tags={KIND_TAG: kind.value},
            description=description,
        )

    return [
        job(REFRESH, Kind.REFRESH, list(REFRESHED), "Raw tables and features of the windows whose rows have changed."),
        job(RETRAINING, Kind.RETRAINING, list(DECIDING), "Dataset, model, report and decision of the newest window."),
        job(
            CLOSING,
            Kind.CLOSING,
            [*REFRESHED, *DECIDING],
            "A window that has ended: its final versions, and a retraining.",
        ),
        dg.define_asset_job(
            PREDICTIONS,
            selection=dg.AssetSelection.assets(RAW_PREDICTIONS),
            description="What the service has predicted; not a part of the loop.",
        ),
    ]
