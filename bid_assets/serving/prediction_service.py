"""What the prediction service answers: features, models, log and figures put together. Plain values in and out; no HTTP.

Every answer is of one moment: the models that serve are taken once. Shadows score what the others answer, in the same pass.
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
from bid_assets.modelling.estimators.column_encoders import PROFILE, Matrix, WrongColumns
from bid_assets.prediction_log.writer import Prediction, PredictionLog
from bid_assets.serving.bid_requests import BidToBe, ReadyFeatures
from bid_assets.serving.explanations import Explanation, explanation
from bid_assets.serving.lookup_probe import LookupProbe
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.serving.models.loaded_model import Scorer
from bid_assets.serving.models.watcher import SHADOW, Follower, Serving, Status
from bid_assets.serving.online_features import OnlineBatch, OnlineFeatures
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore


class NotReady(RuntimeError):
    """No verified model is loaded; the message says why."""


@dataclass(frozen=True)
class Answer:
    """The prediction for one bid."""

    prediction_id: str
    probability: float
    decision: bool
    """Whether to bid: the probability reaches the model's threshold."""
    threshold: float
    variant: str
    """Who answered: `active` or `canary`."""
    model_version: str
    dataset_version: str


@dataclass(frozen=True)
class _Asked:
    """When a prediction was asked for, and for what: as the log keeps it."""

    at: datetime
    bid_id: str | None
    profile_id: str | None
    job_id: str | None


class PredictionService:
    """Answers for bids. Threads may share it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.store = VersionStore(settings.resolved_store_url)
        self.online = OnlineFeatures(settings)
        self.probe = LookupProbe(self.online.lookup)
        self.log = PredictionLog(settings)
        self.follower = Follower(self.store, lambda: self.online.encoder.fingerprint, self._swapped)

    def start(self) -> None:
        """Load what serves, and follow the deployment history from now on."""
        self.metrics.watch(self.log, self.online)
        self.follower.start()
        self.probe.start()

    def close(self) -> None:
        """Write down everything that was predicted, and close the connections."""
        self.follower.stop()
        self.probe.stop()
        self.log.close()
        self.online.close()

    @property
    def status(self) -> Status:
        """What the follower has seen last."""
        return self.follower.status

    @property
    def serving(self) -> Serving:
        """What serves now. Raises `NotReady`."""
        status = self.follower.status
        if status.serving is None:
            raise NotReady(status.reason or "no model is loaded")
        return status.serving

    def predict(self, bids: Sequence[BidToBe]) -> tuple[list[Answer], OnlineBatch]:
        """An answer for each bid, and the features behind them. Raises as `OnlineFeatures.features`, and `NotReady`."""
        return self._predicted(self.serving, bids)

    def predict_features(self, rows: Sequence[ReadyFeatures]) -> list[tuple[Answer, list[str]]]:
        """For each row of ready features an answer, and which features were missing.

        Raises `WrongColumns`, which names the column, and `NotReady`.
        """
        now = datetime.now(UTC)
        for row in rows:
            _refuse_unknown(row.features)
        asked = [_Asked(now, row.bid_id, row.profile_id, row.job_id) for row in rows]
        answers = self._answers(self.serving, asked, [{**row.features, PROFILE: row.profile_id} for row in rows])
        return [
            (answer, [name for name in feature_names() if row.features.get(name) is None])
            for answer, row in zip(answers, rows, strict=True)
        ]

    def explain(self, bid: BidToBe) -> tuple[Answer, OnlineBatch, Explanation]:
        """The answer for one bid, the features behind it, and what each of them added. Raises as `predict`."""
        serving = self.serving
        [answer], batch = self._predicted(serving, [bid])
        _, scorer = serving.for_profile(bid.profile_id)
        return answer, batch, explanation(scorer, batch.table)

    def what_if(
        self, bid: BidToBe, amounts: Sequence[float | None], times: Sequence[datetime | None]
    ) -> tuple[str, list[tuple[float | None, datetime, float]], list[str]]:
        """The model's version, for every amount at every time (amount, time, probability), and what was missing. Nothing is logged."""
        serving = self.serving
        grid = [replace(bid, amount=amount, at=at) for amount, at in product(amounts, times)]
        _, scorer = serving.for_profile(bid.profile_id)
        batch = self.online.features(grid, embeddings=scorer.model.reads_embeddings)
        probabilities = scorer.probabilities(_matrix(scorer, batch.values, list(range(len(grid)))))
        return (
            scorer.version,
            [
                (each.amount, at, float(probability))
                for each, at, probability in zip(grid, batch.as_of, probabilities, strict=True)
            ],
            list(dict.fromkeys(word for words in batch.missing for word in words)),
        )

    def _predicted(self, serving: Serving, bids: Sequence[BidToBe]) -> tuple[list[Answer], OnlineBatch]:
        now = datetime.now(UTC)
        batch = self.online.features(bids, embeddings=serving.reads_embeddings)
        asked = [_Asked(now, bid.bid_id, bid.profile_id, bid.job_id) for bid in bids]
        return self._answers(serving, asked, batch.values), batch

    def _answers(self, serving: Serving, asked: Sequence[_Asked], rows: pa.Table | Sequence[Mapping[str, Any]]) -> list[Answer]:
        answers: list[Answer | None] = [None] * len(asked)
        logged: list[Prediction] = []
        ids = [uuid.uuid4().hex for _ in asked]
        for turn, (variant, scorer, chosen) in enumerate(_shared_out(serving, asked)):
            suffix = f"-{variant}{turn}" if variant == SHADOW else ""  # the answer's id leads to what the shadows said
            matrix = _matrix(scorer, rows, chosen)
            probabilities = scorer.probabilities(matrix).tolist()
            self.metrics.observe_scores(variant, probabilities)
            for number, probability, features in zip(chosen, probabilities, matrix, strict=True):
                decision = probability >= scorer.threshold
                logged.append(_logged(asked[number], ids[number] + suffix, scorer, variant, probability, decision, features))
                if variant != SHADOW:
                    answers[number] = Answer(
                        ids[number],
                        probability,
                        decision,
                        scorer.threshold,
                        variant,
                        scorer.version,
                        scorer.dataset_version,
                    )
        self.log.add(logged)
        return [answer for answer in answers if answer is not None]

    def _swapped(self, status: Status) -> None:
        serving = status.serving
        if serving is not None:
            for scorer in serving.scorers:
                self.log.name_features(scorer.version, scorer.model.feature_names)
        self.metrics.set_model(
            None if serving is None else serving.active.version,
            None if serving is None else serving.active.dataset_version,
            None if serving is None else serving.active.manifest.created_at,
            refused=len(status.refused),
        )


@cache
def feature_names() -> tuple[str, ...]:
    """The names of all features that there are."""
    return tuple(feature.name for family in families() for feature in family.features)


@cache
def _truth_values() -> Mapping[str, bool]:
    """Of each feature whether its values are true and false."""
    return {feature.name: feature.type == pa.bool_() for family in families() for feature in family.features}


def _refuse_unknown(features: Mapping[str, Any]) -> None:
    """A misspelt name would pass for a missing value, and `true` for the number 1."""
    truth_values = _truth_values()
    for name, value in features.items():
        if name not in truth_values:
            raise WrongColumns(f"no feature is called {name!r:.60}; there are {', '.join(feature_names())}", name)
        if isinstance(value, bool) and not truth_values[name]:
            raise WrongColumns(f"the feature {name} is not true or false", name)


def _shared_out(serving: Serving, asked: Sequence[_Asked]) -> Iterator[tuple[str, Scorer, list[int]]]:
    """Which model scores which rows: each row is answered by one, and scored by every shadow."""
    answering: dict[str, tuple[Scorer, list[int]]] = {}
    for number, each in enumerate(asked):
        variant, scorer = serving.for_profile(each.profile_id)
        answering.setdefault(variant, (scorer, []))[1].append(number)
    for variant, (scorer, numbers) in answering.items():
        yield variant, scorer, numbers
    for scorer in serving.shadows:
        yield SHADOW, scorer, list(range(len(asked)))


def _matrix(scorer: Scorer, rows: pa.Table | Sequence[Mapping[str, Any]], chosen: list[int]) -> Matrix:
    if not isinstance(rows, pa.Table):
        return scorer.matrix_of([rows[number] for number in chosen])
    return scorer.matrix(rows if len(chosen) == rows.num_rows else rows.take(pa.array(chosen)))


def _logged(
    asked: _Asked,
    prediction: str,
    scorer: Scorer,
    variant: str,
    probability: float,
    decision: bool,
    features: npt.NDArray[np.float32],
) -> Prediction:
    return Prediction(
        id=prediction,
        at=asked.at,
        bid_id=asked.bid_id,
        profile_id=asked.profile_id,
        job_id=asked.job_id,
        model=scorer.version,
        dataset=scorer.dataset_version,
        variant=variant,
        probability=probability,
        decision=decision,
        features=features,
    )
