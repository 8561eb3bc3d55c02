"""Description of the models that serve: metrics of their reports, and lineage down to raw windows and commit."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from bid_assets.serving.models.loaded_model import LoadedModel
from bid_assets.serving.prediction_service import PredictionService
from bid_assets.version_store.lineage import upstream
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.store import VersionStore


def describe_models(service: PredictionService) -> dict[str, Any]:
    """The body of `GET /model`, JSON-able. Raises `NotReadyError`."""
    serving = service.serving
    canary = serving.canary
    return {
        "active": {**_describe(service.store, serving.active), "since": serving.since},
        "canary": None if canary is None else {**_describe(service.store, canary), "share": serving.share},
        "shadows": [_describe(service.store, shadow) for shadow in serving.shadows],
        "refused": service.status.rejections,
        "lineage": _lineage(service.store, serving.active.manifest.ref),
    }


def _describe(store: VersionStore, model: LoadedModel) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "model_version": model.version,
        "window": manifest.partition,
        "dataset_version": model.dataset_version,
        "created_at": manifest.created_at,
        "git_commit": manifest.code.git_commit,
        "threshold": model.threshold,
        "features": len(model.scorer.feature_names),
        "metrics": _metrics(store, manifest.ref),
    }


@lru_cache(maxsize=16)
def _metrics(store: VersionStore, model: InputRef) -> dict[str, Any] | None:
    """The metrics of the model's report; None where there is none."""
    for report in reversed(store.versions("metrics_report", model.partition)):
        if any(ref.version == model.version for ref in report.inputs):
            return {name: value for name, value in report.info.items() if isinstance(value, int | float)}
    return None


@lru_cache(maxsize=4)
def _lineage(store: VersionStore, model: InputRef) -> dict[str, Any]:
    return upstream(store, store.manifest(model.asset, model.partition, model.version)).to_dict()
