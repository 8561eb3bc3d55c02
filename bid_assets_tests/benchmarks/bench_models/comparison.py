"""One data set at its cutoffs: our model and the peers trained on the same rows and evaluated on the same later bids."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.features.family import FeatureFamily
from bid_assets.modelling.backtesting.cutoff import TrainTestRows, train_test_rows
from bid_assets.modelling.dataset.assemble import labels
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.promotion.champion_challenger import compare
from bid_assets.modelling.training import train
from bid_assets.orchestration.assets.dataset import label_rules
from bid_assets.orchestration.assets.model import training_parameters
from bid_assets.orchestration.lookback import ENOUGH_LABELLED_BIDS
from bid_assets.settings import Settings
from bid_assets_tests.benchmarks.bench_models.data_sets import DataSet, Period
from bid_assets_tests.benchmarks.bench_models.peer_process import PeerProcess, peer_rows

OURS, CONSTANT = "bid_assets", "constant base rate"
METRICS = ("roc_auc", "average_precision_rarer", "log_loss", "calibration_error")
RESAMPLES = 300


@dataclass(frozen=True)
class CutoffResult:
    """What came of one cutoff."""

    cutoff: datetime
    train_rows: int
    test_rows: int
    train_label_rate: float
    test_label_rate: float
    metrics: dict[str, dict[str, float | None]]
    """Of each model, by name: `METRICS`."""
    differences: dict[str, dict[str, Any]]
    """Ours less the peer's, by the peer's name: `modelling.comparison.compare`'s `metrics`, the peer as champion."""
    cpu_seconds: dict[str, float]
    """Of training and scoring, by model."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the peers' libraries."""


def result_at(
    data: DataSet,
    features: Sequence[tuple[FeatureFamily, pa.Table]],
    period: Period,
    settings: Settings,
    peers: PeerProcess | None,
) -> CutoffResult:
    """Every model trained and evaluated at one cutoff. `peers` None: our model alone. Raises `NotTrainableError`."""
    rows = rows_of(data, features, period, settings)
    known, success = labels(rows.train), labels(rows.test)
    rarer_is_success = metrics.success_is_rarer(known)
    started = time.process_time()
    model = train(rows.train, training_parameters(settings))
    probabilities = {OURS: model.predict(rows.test), CONSTANT: np.full(len(success), known.mean())}
    seconds, versions = {OURS: time.process_time() - started}, {}
    if peers is not None:
        others, facts = peers.probabilities(*peer_rows(data, rows, model))
        probabilities, seconds, versions = probabilities | others, seconds | facts["cpu_seconds"], facts["versions"]
    profiles = rows.test["profile_id"].to_numpy()
    return CutoffResult(
        period.cutoff,
        len(known),
        len(success),
        float(known.mean()),
        float(success.mean()),
        {name: _metrics(success, probability, rarer_is_success) for name, probability in probabilities.items()},
        {
            name: compare(success, peer, probabilities[OURS], profiles, rarer_is_success=rarer_is_success, resamples=RESAMPLES)[
                "metrics"
            ]
            for name, peer in probabilities.items()
            if name != OURS
        },
        seconds,
        versions,
    )


def rows_of(
    data: DataSet, features: Sequence[tuple[FeatureFamily, pa.Table]], period: Period, settings: Settings
) -> TrainTestRows:
    """The rows of one cutoff, by the settings."""
    return train_test_rows(
        data.raw["raw_bids"],
        data.raw["raw_bid_outcomes"],
        features,
        cutoff=period.cutoff,
        lookback=lookback_of(data, period, settings),
        cadence=settings.cadence,
        end=period.end,
        rules=label_rules(settings),
    )


def lookback_of(data: DataSet, period: Period, settings: Settings) -> timedelta:
    """As set; by `auto` everything, since no data set here has as many outcomes as `auto` goes back for.

    Raises `ValueError` for one that has: `bid_assets.orchestration.lookback` counts in a store, which there is none of here.
    """
    if settings.lookback_windows != "auto":
        return settings.lookback_windows * settings.cadence.length
    if data.raw["raw_bid_outcomes"].num_rows >= ENOUGH_LABELLED_BIDS:
        raise ValueError(f"{data.name} has {ENOUGH_LABELLED_BIDS:,} outcomes or more: set BID_ASSETS_LOOKBACK_WINDOWS")
    return period.cutoff - pc.min(data.raw["raw_bids"]["submitted_at"]).as_py() + settings.cadence.length


def _metrics(success: metrics.Labels, probability: metrics.Probabilities, rarer_is_success: bool) -> dict[str, float | None]:
    values = metrics.all_metrics(success, probability, 0.5, rarer_is_success)
    return {name: values[name] for name in METRICS}
