"""Adaptive micro-batching: single bids that arrive while a batch is being predicted form the next batch, with one look-up.

A prediction does not depend on the other bids of its batch: they do not see each other. A batch of eight bids takes about three
times as long as one bid; nobody waits for more than the batch under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

from bid_assets.app_db.connections import DATABASE_ERRORS
from bid_assets.serving.bid_requests import BidRequest
from bid_assets.serving.online_features import OnlineBatch
from bid_assets.serving.prediction_service import Prediction

MAX_BATCH_SIZE = 64
"""Bids of one batch."""


class PredictBatch(Protocol):
    """Predicts bids, each as if it were alone: `PredictionService.predict`."""

    def __call__(self, bids: Sequence[BidRequest], /) -> tuple[list[Prediction], OnlineBatch]:
        """The predictions, and the features behind them."""


class BatchedPrediction(NamedTuple):
    """The prediction for one bid, and its row in the features of its batch."""

    prediction: Prediction
    batch: OnlineBatch
    row: int


class MicroBatcher:
    """Batches the bids of one event loop."""

    def __init__(self, predict_batch: PredictBatch, threads: Executor) -> None:
        self._predict_batch = predict_batch
        self._threads = threads
        self._queue: list[tuple[BidRequest, asyncio.Future[BatchedPrediction]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def predict(self, bid: BidRequest) -> BatchedPrediction:
        """The prediction for a bid. Raises what `predict_batch` raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[BatchedPrediction] = loop.create_future()
        self._queue.append((bid, future))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._drain_queue())
        return await future

    async def _drain_queue(self) -> None:
        while self._queue:
            batch, self._queue = self._queue[:MAX_BATCH_SIZE], self._queue[MAX_BATCH_SIZE:]
            try:
                await self._run_batch(batch)
            except DATABASE_ERRORS as error:  # not the fault of one bid: each alone would wait as long again
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            except Exception as error:
                await self._run_one_by_one(batch, error)

    async def _run_batch(self, batch: Sequence[tuple[BidRequest, asyncio.Future[BatchedPrediction]]]) -> None:
        bids = [bid for bid, _ in batch]
        predictions, features = await asyncio.get_running_loop().run_in_executor(self._threads, self._predict_batch, bids)
        for row, (prediction, (_, future)) in enumerate(zip(predictions, batch, strict=True)):
            if not future.done():  # cancelled by its caller
                future.set_result(BatchedPrediction(prediction, features, row))

    async def _run_one_by_one(
        self, batch: Sequence[tuple[BidRequest, asyncio.Future[BatchedPrediction]]], error: Exception
    ) -> None:
        """A bid that cannot be predicted must not fail the others of its batch."""
        for bid, future in batch:
            try:
                if len(batch) == 1:
                    raise error
                await self._run_batch([(bid, future)])
            except Exception as own_error:
                if not future.done():
                    future.set_exception(own_error)
