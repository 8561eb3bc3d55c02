"""Micro-batching: bids that arrive during a batch form the next one, and none fails with another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from bid_assets.serving.bid_requests import BidRequest
from bid_assets.serving.micro_batching import MAX_BATCH_SIZE, BatchedPrediction, MicroBatcher
from bid_assets.serving.online_features import OnlineBatch
from bid_assets.serving.prediction_service import Prediction


class RecordingPredictor:
    """Predicts with the profile as the id; the first batch waits until the others have arrived."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.started, self.resume = threading.Event(), threading.Event()

    def __call__(self, bids: Sequence[BidRequest], /) -> tuple[list[Prediction], OnlineBatch]:
        self.batches.append([bid.profile_id for bid in bids])
        self.started.set()
        self.resume.wait(10)
        if any(bid.profile_id == "bad" for bid in bids):
            raise ValueError("a bad bid")
        return [Prediction(bid.profile_id, 0.5, True, 0.5, "active", "m", "d") for bid in bids], OnlineBatch(
            [], pa.schema([]), [], [], []
        )


def predict_concurrently(
    predictor: RecordingPredictor,
    names: Sequence[str],
    meanwhile: Callable[[list[asyncio.Task[BatchedPrediction]]], None] = lambda tasks: None,
) -> list[BatchedPrediction | BaseException]:
    """The result of each: the first is a batch alone, the others arrive while it is being predicted."""

    async def run_all() -> list[BatchedPrediction | BaseException]:
        with ThreadPoolExecutor(1) as threads:
            batcher = MicroBatcher(predictor, threads)
            tasks = [asyncio.create_task(batcher.predict(BidRequest(names[0])))]
            await asyncio.to_thread(predictor.started.wait, 10)
            tasks += [asyncio.create_task(batcher.predict(BidRequest(name))) for name in names[1:]]
            await asyncio.sleep(0)
            meanwhile(tasks)
            predictor.resume.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run_all())


def ids_of(results: Sequence[BatchedPrediction | BaseException]) -> list[str]:
    return [each.prediction.prediction_id if isinstance(each, BatchedPrediction) else str(each) for each in results]


def test_bids_that_arrive_during_a_batch_form_the_next_one_and_each_gets_its_own_prediction() -> None:
    predictor = RecordingPredictor()
    results = predict_concurrently(predictor, ["a", "b", "c", "d"])
    assert predictor.batches == [["a"], ["b", "c", "d"]]
    assert ids_of(results) == ["a", "b", "c", "d"]
    assert [each.row for each in results if isinstance(each, BatchedPrediction)] == [0, 0, 1, 2]


def test_a_bid_that_cannot_be_predicted_fails_alone() -> None:
    assert ids_of(predict_concurrently(RecordingPredictor(), ["a", "b", "bad", "c"])) == ["a", "b", "a bad bid", "c"]


def test_a_caller_that_cancels_keeps_nobody_from_a_prediction() -> None:
    results = predict_concurrently(RecordingPredictor(), ["a", "b", "c"], lambda tasks: tasks[1].cancel() and None)
    assert isinstance(results[1], asyncio.CancelledError)
    assert ids_of([results[0], results[2]]) == ["a", "c"]


def test_a_batch_has_at_most_the_maximal_size() -> None:
    predictor = RecordingPredictor()
    predict_concurrently(predictor, [str(number) for number in range(MAX_BATCH_SIZE + 6)])
    assert [len(names) for names in predictor.batches] == [1, MAX_BATCH_SIZE, 5]


@pytest.mark.parametrize("names", [["bad"], ["bad", "a"]])
def test_a_failed_batch_does_not_stop_the_next(names: list[str]) -> None:
    results = predict_concurrently(RecordingPredictor(), [*names, "z"])
    assert isinstance(results[0], ValueError)
    assert ids_of(results)[-1] == "z"
