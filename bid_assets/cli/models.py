"""What tables say of a model beside its version: metrics of its report, and what it is now. Used by several commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bid_assets.deployments.commands import MODEL
from bid_assets.deployments.events import ModelState
from bid_assets.version_store.store import VersionStore

__all__ = ["METRICS", "MODEL", "metric_cells", "model_metrics", "state_cell"]

METRICS = {"roc_auc": "ROC AUC", "log_loss": "log loss"}
"""Metrics of the holdout, by the name that a report gives them."""


def model_metrics(store: VersionStore) -> dict[str, Mapping[str, Any]]:
    """Version of a model -> the metrics of the newest report about it."""
    reports = store.versions("metrics_report")
    return {ref.version: report.info for report in reports for ref in report.inputs if ref.asset == MODEL}


def metric_cells(metrics: Mapping[str, Any] | None) -> list[str]:
    """A cell for each of `METRICS`; empty where it was not computed."""
    values = [None if metrics is None else metrics.get(name) for name in METRICS]
    return ["" if value is None else f"{value:.4f}" for value in values]


def state_cell(state: ModelState) -> str:
    """The state, the active one to be seen at a glance."""
    return "[bold green]active[/bold green]" if state is ModelState.ACTIVE else state.value
