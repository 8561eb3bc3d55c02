"""What tables say of a model beside its version: figures of its report, and what it is now. Used by several commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bid_assets.deployments.commands import MODEL
from bid_assets.deployments.events import State
from bid_assets.version_store.store import VersionStore

__all__ = ["FIGURES", "MODEL", "figure_cells", "model_figures", "state_cell"]

FIGURES = {"roc_auc": "ROC AUC", "log_loss": "log loss"}
"""Figures of the holdout, by the name that a report gives them."""


def model_figures(store: VersionStore) -> dict[str, Mapping[str, Any]]:
    """Version of a model -> the figures of the newest report about it."""
    reports = store.versions("metrics_report")
    return {ref.version: report.info for report in reports for ref in report.inputs if ref.asset == MODEL}


def figure_cells(figures: Mapping[str, Any] | None) -> list[str]:
    """A cell for each of `FIGURES`; empty where it was not computed."""
    values = [None if figures is None else figures.get(name) for name in FIGURES]
    return ["" if value is None else f"{value:.4f}" for value in values]


def state_cell(state: State) -> str:
    """The state, the active one to be seen at a glance."""
    return "[bold green]active[/bold green]" if state is State.ACTIVE else state.value
