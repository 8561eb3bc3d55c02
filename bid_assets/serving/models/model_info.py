"""What is known of the models that serve: figures of their report, and lineage down to raw windows and commit."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from bid_assets.serving.models.loaded_model import Scorer
from bid_assets.serving.prediction_service import PredictionService
from bid_assets.version_store.lineage import upstream
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.store import VersionStore


def model_facts(service: PredictionService) -> dict[str, Any]:
    """What `GET /model` says, JSON-able. Raises `NotReady`."""
    serving = service.serving
    canary = serving.canary
    return {
        "active": {**_facts(service.store, serving.active), "since": serving.since},
        "canary": None if canary is None else {**_facts(service.store, canary), "share": serving.share},
        "shadows": [_facts(service.store, shadow) for shadow in serving.shadows],
        "refused": service.status.refused,
        "lineage": _lineage(service.store, serving.active.manifest.ref),
    }


def _facts(store: VersionStore, scorer: Scorer) -> dict[str, Any]:
    manifest = scorer.manifest
    return {
        "model_version": scorer.version,
        "window": manifest.partition,
        "dataset_version": scorer.dataset_version,
        "created_at": manifest.created_at,
        "git_commit": manifest.code.git_commit,
        "threshold": scorer.threshold,
        "features": len(scorer.model.feature_names),
        "metrics": _metrics(store, manifest.ref),
    }


@lru_cache(maxsize=16)
def _metrics(store: VersionStore, model: InputRef) -> dict[str, Any] | None:
    """The figures of the report about this model; None where there is none."""
    for report in reversed(store.versions("metrics_report", model.partition)):
        if any(ref.version == model.version for ref in report.inputs):
            return {name: value for name, value in report.info.items() if isinstance(value, int | float)}
    return None


@lru_cache(maxsize=4)
def _lineage(store: VersionStore, model: InputRef) -> dict[str, Any]:
    return upstream(store, store.manifest(model.asset, model.partition, model.version)).to_dict()
