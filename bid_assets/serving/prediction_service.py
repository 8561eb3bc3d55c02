"""The prediction service without HTTP: online features, serving models, prediction log and metrics put together.

Each call reads the serving state once, so that no result mixes models. Shadow models score the same rows in the same call.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.features.registry import families
from bid_assets.modelling.estimators.column_encoders import PROFILE_COLUMN, ColumnMismatchError
from bid_assets.prediction_log.writer import PredictionLog, PredictionRecord
from bid_assets.serving.bid_requests import BidRequest, PrecomputedFeatures
from bid_assets.serving.explanations import Explanation, explain_prediction
from bid_assets.serving.lookup_probe import LookupProbe
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.serving.models.loaded_model import LoadedModel
from bid_assets.serving.models.traffic_split import SHADOW
from bid_assets.serving.models.watcher import DeploymentWatcher, ServingState, WatcherStatus
from bid_assets.serving.online_features import OnlineBatch, OnlineFeatures
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore


class NotReadyError(RuntimeError):
    """No verified model is loaded; the message says why."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one bid."""

    prediction_id: str
    probability: float
    decision: bool
    """Whether to bid: the probability reaches the model's threshold."""
    threshold: float
    variant: str
    """Which model predicted: `active` or `canary`."""
    model_version: str
    dataset_version: str


@dataclass(frozen=True)
class _LogContext:
    """Time and ids of one requested prediction, for the prediction log."""

    at: datetime
    bid_id: str | None
    profile_id: str | None
    job_id: str | None


class PredictionService:
    """Predicts bids with the models that serve. Threads may share it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.store = VersionStore(settings.resolved_store_url)
        self.online = OnlineFeatures(settings)
        self.probe = LookupProbe(self.online.lookup)
        self.log = PredictionLog(settings)
        self.watcher = DeploymentWatcher(self.store, lambda: self.online.encoder.fingerprint, self._on_status_change)

    def start(self) -> None:
        """Load the models that serve, and start the threads that watch the deployment history and the look-ups."""
        self.metrics.watch_counts(self.log, self.online)
        self.watcher.start()
        self.probe.start()

    def close(self) -> None:
        """Stop the threads, write the prediction log to its end, and close the connections."""
        self.watcher.stop()
        self.probe.stop()
        self.log.close()
        self.online.close()

    @property
    def status(self) -> WatcherStatus:
        """The deployment watcher's status."""
        return self.watcher.status

    @property
    def serving(self) -> ServingState:
        """The models that serve now. Raises `NotReadyError`."""
        status = self.watcher.status
        if status.serving is None:
            raise NotReadyError(status.reason or "no model is loaded")
        return status.serving

    def predict(self, bids: Sequence[BidRequest]) -> tuple[list[Prediction], OnlineBatch]:
        """A prediction for each bid, and the features behind them. Raises as `OnlineFeatures.features`, and `NotReadyError`."""
        return self._predict(self.serving, bids)

    def predict_features(self, rows: Sequence[PrecomputedFeatures]) -> list[tuple[Prediction, list[str]]]:
        """For each row of precomputed features a prediction, and the names of missing features.

        Raises `ColumnMismatchError`, which names the column, and `NotReadyError`.
        """
        now = datetime.now(UTC)
        for row in rows:
            _require_known_features(row.features)
        contexts = [_LogContext(now, row.bid_id, row.profile_id, row.job_id) for row in rows]
        predictions = self._score(self.serving, contexts, [{**row.features, PROFILE_COLUMN: row.profile_id} for row in rows])
        return [
            (prediction, [name for name in feature_names() if row.features.get(name) is None])
            for prediction, row in zip(predictions, rows, strict=True)
        ]

    def explain(self, bid: BidRequest) -> tuple[Prediction, OnlineBatch, Explanation]:
        """The prediction for one bid, the features behind it, and their SHAP values. Raises as `predict`."""
        serving = self.serving
        [prediction], batch = self._predict(serving, [bid])
        _, model = serving.for_profile(bid.profile_id)
        return prediction, batch, explain_prediction(model, batch.table)

    def what_if(
        self, bid: BidRequest, amounts: Sequence[float | None], times: Sequence[datetime | None]
    ) -> tuple[str, list[tuple[float | None, datetime, float]], list[str]]:
        """Predictions for every amount at every time, which are not logged.

        Version of the model; (amount, time, probability) of each cell; what was missing. Raises as `predict`.
        """
        serving = self.serving
        grid = [replace(bid, amount=amount, at=at) for amount, at in product(amounts, times)]
        _, model = serving.for_profile(bid.profile_id)
        batch = self.online.features(grid, embeddings=model.scorer.reads_embeddings)
        probabilities = model.probabilities(model.encode_rows(batch.rows))
        return (
            model.version,
            [
                (bid.amount, at, float(probability))
                for bid, at, probability in zip(grid, batch.as_of, probabilities, strict=True)
            ],
            list(dict.fromkeys(name for names in batch.missing for name in names)),
        )

    def _predict(self, serving: ServingState, bids: Sequence[BidRequest]) -> tuple[list[Prediction], OnlineBatch]:
        now = datetime.now(UTC)
        batch = self.online.features(bids, embeddings=serving.reads_embeddings)
        contexts = [_LogContext(now, bid.bid_id, bid.profile_id, bid.job_id) for bid in bids]
        return self._score(serving, contexts, batch.rows), batch

    def _score(
        self, serving: ServingState, contexts: Sequence[_LogContext], rows: Sequence[Mapping[str, Any]]
    ) -> list[Prediction]:
        predictions: list[Prediction | None] = [None] * len(contexts)
        records: list[PredictionRecord] = []
        ids = [uuid.uuid4().hex for _ in contexts]
        for index, (variant, model, indices) in enumerate(_assign_rows(serving, contexts)):
            # so that the caller's id leads to the shadows' predictions
            suffix = f"-{variant}{index}" if variant == SHADOW else ""
            matrix = model.encode_rows([rows[row] for row in indices])
            probabilities = model.probabilities(matrix).tolist()
            self.metrics.observe_scores(variant, probabilities)
            for row, probability, features in zip(indices, probabilities, matrix, strict=True):
                decision = probability >= model.threshold
                records.append(_record(contexts[row], ids[row] + suffix, model, variant, probability, decision, features))
                if variant != SHADOW:
                    predictions[row] = Prediction(
                        ids[row],
                        probability,
                        decision,
                        model.threshold,
                        variant,
                        model.version,
                        model.dataset_version,
                    )
        self.log.add(records)
        return [prediction for prediction in predictions if prediction is not None]

    def _on_status_change(self, status: WatcherStatus) -> None:
        serving = status.serving
        if serving is not None:
            for model in serving.models:
                self.log.name_features(model.version, model.scorer.feature_names)
        self.metrics.set_model(
            None if serving is None else serving.active.version,
            None if serving is None else serving.active.dataset_version,
            None if serving is None else serving.active.manifest.created_at,
            rejected=len(status.rejections),
        )


@cache
def feature_names() -> tuple[str, ...]:
    """The names of all features of all families."""
    return tuple(feature.name for family in families() for feature in family.features)


@cache
def _is_boolean() -> Mapping[str, bool]:
    """Feature name -> whether it is Boolean."""
    return {feature.name: feature.type == pa.bool_() for family in families() for feature in family.features}


def _require_known_features(features: Mapping[str, Any]) -> None:
    """Raise `ColumnMismatchError` for a name that is no feature, and for `true` where a number belongs."""
    is_boolean = _is_boolean()
    for name, value in features.items():
        if name not in is_boolean:
            raise ColumnMismatchError(f"no feature is called {name!r:.60}; there are {', '.join(feature_names())}", name)
        if isinstance(value, bool) and not is_boolean[name]:
            raise ColumnMismatchError(f"the feature {name} is not true or false", name)


def _assign_rows(serving: ServingState, contexts: Sequence[_LogContext]) -> Iterator[tuple[str, LoadedModel, list[int]]]:
    """Variant, model and row indices: each row is assigned to the active model or the canary, and to every shadow."""
    by_variant: dict[str, tuple[LoadedModel, list[int]]] = {}
    for row, context in enumerate(contexts):
        variant, model = serving.for_profile(context.profile_id)
        by_variant.setdefault(variant, (model, []))[1].append(row)
    for variant, (model, indices) in by_variant.items():
        yield variant, model, indices
    for model in serving.shadows:
        yield SHADOW, model, list(range(len(contexts)))


def _record(
    context: _LogContext,
    prediction_id: str,
    model: LoadedModel,
    variant: str,
    probability: float,
    decision: bool,
    features: npt.NDArray[np.float32],
) -> PredictionRecord:
    return PredictionRecord(
        id=prediction_id,
        at=context.at,
        bid_id=context.bid_id,
        profile_id=context.profile_id,
        job_id=context.job_id,
        model=model.version,
        dataset=model.dataset_version,
        variant=variant,
        probability=probability,
        decision=decision,
        features=features,
    )
