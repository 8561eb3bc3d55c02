"""Texts are encoded for the models that read embeddings, and for no others: most services need no encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bid_assets.deployments.events import Action, Event, append_event, read_history
from bid_assets.features.embeddings.model_files import STATIC_DIMENSION
from bid_assets.modelling.estimators.column_encoders import EmbeddingLogit
from bid_assets.modelling.model import EMPTY_ROW_PROBABILITY
from bid_assets.modelling.model_file import content_hash, save
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.serving.models.loaded_model import LoadedModel
from bid_assets.serving.prediction_service import PredictionService
from bid_assets.serving.schemas import BidIn
from bid_assets.version_store.manifest import Draft, InputRef
from bid_assets_tests.platforms import Platform, call
from bid_assets_tests.serving.servers import bids_of

pytestmark = pytest.mark.slow

ANOTHER = "another encoder " * 4


@pytest.fixture(scope="module")
def first(platform: Platform) -> InputRef:
    """The active model, which reads no embedding."""
    return platform.active_model


@pytest.fixture(scope="module")
def reader(platform: Platform, first: InputRef) -> InputRef:
    """The same model, but that it reads the embedding of the bid's text too."""
    loaded = LoadedModel.load(platform.store, first)
    fingerprint = platform.head("training_dataset").info["encoder_fingerprint"]
    embedding = EmbeddingLogit(
        "bid_text_embedding", pa.list_(pa.float32(), STATIC_DIMENSION), np.full(STATIC_DIMENSION, 0.5), 0.0
    )
    model = replace(loaded.scorer, encoders=(*loaded.scorer.encoders, embedding), encoder_fingerprint=fingerprint)
    info = {EMPTY_ROW_PROBABILITY: model.empty_row_probability()}
    draft = Draft("trained_model", first.partition, "joblib", content_hash(model), inputs=loaded.manifest.inputs, info=info)
    return platform.store.write(draft, lambda path: save(model, path)).manifest.ref


@contextmanager
def started(platform: Platform, **settings: Any) -> Iterator[PredictionService]:
    service = PredictionService(platform.settings.model_copy(update=settings), Metrics())
    try:
        service.start()
        yield service
    finally:
        service.close()


def test_a_model_without_embeddings_is_served_where_there_is_no_encoder(platform: Platform, first: InputRef) -> None:
    bids = [BidIn(**bid).to_request() for bid in bids_of(platform, 3)]
    with started(platform) as plain:
        expected = [answer.probability for answer in plain.predict(bids)[0]]
        assert (plain.online.hits, plain.online.misses) == (0, 0)
    with started(platform, encoder="/nowhere/model") as service:
        answers, _ = service.predict(bids)
        assert [(answer.model_version, answer.probability) for answer in answers] == [
            (first.version, each) for each in expected
        ]
        answer, _, why = service.explain(bids[0])
        assert answer.probability == expected[0]
        assert why.contributions
        _, [(_, _, probability)], _ = service.what_if(bids[0], [bids[0].amount], [bids[0].at])
        assert probability == expected[0]


def test_texts_are_encoded_as_soon_as_a_canary_reads_them(platform: Platform, first: InputRef, reader: InputRef) -> None:
    bids = [BidIn(**bid).to_request() for bid in bids_of(platform, 3)]
    with started(platform) as service:
        before = [answer.probability for answer in service.predict(bids)[0]]
        call("deployments", "canary", reader.version, "--share", "0.001", "--reason", "to see it")
        try:
            assert service.watcher.refresh().serving.canary is not None  # type: ignore[union-attr]
            assert [answer.probability for answer in service.predict(bids)[0]] == before
            assert service.online.hits + service.online.misses > 0
        finally:
            call("deployments", "end", reader.version, "--reason", "seen")


def test_a_model_that_reads_embeddings_of_another_encoder_or_of_none_here_is_refused(
    platform: Platform, first: InputRef, reader: InputRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bid_assets.serving.online_features.CachedEncoder.fingerprint", ANOTHER)
    for settings, why in (
        ({}, "reads texts by the encoder"),
        ({"encoder": "/nowhere/model"}, "names the folder /nowhere/model"),
    ):
        with started(platform, **settings) as service:
            append_event(
                platform.store, read_history(platform.store), Event(Action.ACTIVATED, reader, "test", "to see it refused")
            )
            try:
                status = service.watcher.refresh()
                assert why in status.rejections[reader.version]
                assert service.predict([BidIn(profile_id="p").to_request()])[0][0].model_version == first.version
            finally:
                append_event(platform.store, read_history(platform.store), Event(Action.ACTIVATED, first, "test", "seen"))
