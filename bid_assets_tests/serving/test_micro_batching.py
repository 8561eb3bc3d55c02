"""Bids that come together are answered together, and none waits for another's misfortune."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from bid_assets.serving.bid_requests import BidToBe
from bid_assets.serving.micro_batching import MOST, Answered, Together
from bid_assets.serving.online_features import OnlineBatch
from bid_assets.serving.prediction_service import Answer


class Told:
    """Answers with the name of the profile; the first pass waits for the others to come."""

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, bids: Sequence[BidToBe], /) -> tuple[list[Answer], OnlineBatch]:
        self.passes.append([bid.profile_id for bid in bids])
        self.begun.set()
        self.go_on.wait(10)
        if any(bid.profile_id == "bad" for bid in bids):
            raise ValueError("a bad bid")
        return [Answer(bid.profile_id, 0.5, True, 0.5, "active", "m", "d") for bid in bids], OnlineBatch(
            [], pa.schema([]), [], [], []
        )


def asked(
    told: Told, names: Sequence[str], meanwhile: Callable[[list[asyncio.Task[Answered]]], None] = lambda tasks: None
) -> list[Answered | BaseException]:
    """What each is told: the first is asked about alone, the others while it is being answered."""

    async def all_of_them() -> list[Answered | BaseException]:
        with ThreadPoolExecutor(1) as threads:
            together = Together(told, threads)
            tasks = [asyncio.create_task(together.answer(BidToBe(names[0])))]
            await asyncio.to_thread(told.begun.wait, 10)
            tasks += [asyncio.create_task(together.answer(BidToBe(name))) for name in names[1:]]
            await asyncio.sleep(0)
            meanwhile(tasks)
            told.go_on.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(all_of_them())


def names_of(answers: Sequence[Answered | BaseException]) -> list[str]:
    return [each.answer.prediction_id if isinstance(each, Answered) else str(each) for each in answers]


def test_those_who_come_meanwhile_are_answered_by_one_pass_each_with_its_own_answer() -> None:
    told = Told()
    answers = asked(told, ["a", "b", "c", "d"])
    assert told.passes == [["a"], ["b", "c", "d"]]
    assert names_of(answers) == ["a", "b", "c", "d"]
    assert [each.row for each in answers if isinstance(each, Answered)] == [0, 0, 1, 2]


def test_a_bid_that_cannot_be_answered_fails_alone() -> None:
    assert names_of(asked(Told(), ["a", "b", "bad", "c"])) == ["a", "b", "a bad bid", "c"]


def test_who_has_stopped_waiting_keeps_nobody_from_an_answer() -> None:
    answers = asked(Told(), ["a", "b", "c"], lambda tasks: tasks[1].cancel() and None)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert names_of([answers[0], answers[2]]) == ["a", "c"]


def test_a_pass_takes_so_many_and_no_more() -> None:
    told = Told()
    asked(told, [str(number) for number in range(MOST + 6)])
    assert [len(names) for names in told.passes] == [1, MOST, 5]


@pytest.mark.parametrize("names", [["bad"], ["bad", "a"]])
def test_what_failed_does_not_stop_the_next(names: list[str]) -> None:
    answers = asked(Told(), [*names, "z"])
    assert isinstance(answers[0], ValueError)
    assert names_of(answers)[-1] == "z"
