"""Whether to retrain now: a pure function of the state, which says what to do and why, in words.

Nothing here asks a clock, a database or Dagster: `state.py` gathers the state, `sensors.py` acts on the decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from bid_assets.settings import Settings

MAX_BACKOFF = timedelta(hours=1)
"""The longest pause before the next attempt, and the pause after `max_attempts` failures in a row. Retries never end."""
BLOCKED_PAUSE = timedelta(days=1)
"""What a data-quality check has stopped is tried again after this, or when outcomes arrive: rows may have been corrected."""


@dataclass(frozen=True)
class RetrainingRules:
    """When a retraining is due; see the settings of the same names."""

    min_new_outcomes: int
    min_interval: timedelta
    max_age: timedelta
    retry_blocked: bool
    first_pause: timedelta
    max_attempts: int

    @classmethod
    def of(cls, settings: Settings) -> RetrainingRules:
        """The rules that the settings say."""
        return cls(
            min_new_outcomes=settings.retrain_min_new_outcomes,
            min_interval=timedelta(minutes=settings.retrain_min_interval_minutes),
            max_age=timedelta(days=settings.retrain_max_age_days),
            retry_blocked=settings.retry_blocked_retraining,
            first_pause=timedelta(seconds=settings.retry_pause_seconds),
            max_attempts=settings.max_attempts,
        )


@dataclass(frozen=True)
class FailedAttempt:
    """A retraining that failed: when it ended, its error message, and the new outcomes when it began."""

    run_id: str
    ended_at: datetime
    message: str
    outcomes_since_active_model: int


@dataclass(frozen=True)
class RetrainingRequest:
    """A request for a retraining, by monitoring or a person."""

    name: str
    reason: str
    requested_at: datetime


@dataclass(frozen=True)
class RetrainingState:
    """All that the decision depends on.

    `outcomes_since_active_model` counts from the active model's dataset, `outcomes_since_last_dataset` from the newest dataset
    of all: a challenger that was not activated has learned from its outcomes too, and training it again would give the same
    model. `failures` are those since the last success, newest first; `blocked_by`: the data-quality check that stopped the
    newest of them.
    """

    now: datetime
    window: str | None = None
    """The newest window that holds rows; what would be retrained. None: nothing has been read yet."""
    active_model: str | None = None
    dataset_created_at: datetime | None = None
    """Of the active model."""
    outcomes_since_active_model: int = 0
    outcomes_since_last_dataset: int = 0
    last_attempt_at: datetime | None = None
    """When the newest finished attempt ended, however it ended."""
    failures: tuple[FailedAttempt, ...] = ()
    blocked_by: str | None = None
    undecided_dataset: str | None = None
    """The newest dataset, where the run that made it ended before its decision (Ctrl-C, a killed process) and none has
    followed.
    """
    retraining_runs: tuple[str, ...] = ()
    """Run ids, queued or running."""
    refreshing_runs: tuple[str, ...] = ()
    """Run ids, running only: where rows land all the time one is always queued, and a retraining would wait for ever."""
    requests: tuple[RetrainingRequest, ...] = ()
    outdated_model: str | None = None
    """The newest model, if a version of the code has made it that makes other models now: the service may not be able to load
    it.
    """


@dataclass(frozen=True)
class Decision:
    """What to do, and why.

    `attempt` counts from 1 after every success; `slow`: it has failed so often that it is tried rarely.
    """

    action: Literal["retrain", "wait"]
    reason: str
    attempt: int = 1
    slow: bool = False


def decide(state: RetrainingState, rules: RetrainingRules) -> Decision:
    """The decision for this state. Every path gives its reason."""
    if state.window is None:
        return _wait("nothing has been read from the application's database yet")
    if state.retraining_runs:
        return _wait(f"retraining run {_short(state.retraining_runs[0])} is in flight")
    if state.refreshing_runs:
        return _wait(f"refresh run {_short(state.refreshing_runs[0])} is in flight, and what it brings belongs in the dataset")
    if state.failures:
        return _after_failure(state, rules)
    if state.undecided_dataset is not None:
        return Decision("retrain", f"the run that made {state.undecided_dataset} ended before the decision about a model")
    if state.outdated_model and (state.last_attempt_at is None or state.now - state.last_attempt_at >= rules.min_interval):
        return Decision("retrain", f"the newest model, {state.outdated_model}, was made by another version of the code")
    if state.outcomes_since_last_dataset == 0:
        return _wait(
            "no outcome is new since the last dataset" + ("" if state.active_model else ", and no model is active yet")
        )
    last_attempt = state.last_attempt_at
    if pending := [request for request in state.requests if last_attempt is None or request.requested_at > last_attempt]:
        return Decision("retrain", "; ".join(f"{request.name}: {request.reason}" for request in pending))
    return _by_outcomes_and_age(state, rules)


def _by_outcomes_and_age(state: RetrainingState, rules: RetrainingRules) -> Decision:
    outcomes = f"{state.outcomes_since_last_dataset:,} new outcomes since the last dataset"
    if state.active_model and state.outcomes_since_active_model != state.outcomes_since_last_dataset:
        outcomes += f" ({state.outcomes_since_active_model:,} since the active model's)"
    age = None if state.dataset_created_at is None else state.now - state.dataset_created_at
    enough, old = state.outcomes_since_last_dataset >= rules.min_new_outcomes, age is not None and age >= rules.max_age
    if not enough and not old:
        model_age = "no model is active yet" if age is None else f"the active model's dataset is {in_words(age)} old"
        limit = f"of at least {rules.min_new_outcomes:,}"
        return _wait(f"{outcomes}, {limit}; {model_age}" + ("" if age is None else f", of at most {in_words(rules.max_age)}"))
    since_last_attempt = None if state.last_attempt_at is None else state.now - state.last_attempt_at
    if since_last_attempt is not None and since_last_attempt < rules.min_interval:
        left = in_words(rules.min_interval - since_last_attempt)
        return _wait(
            f"{outcomes}, but the last retraining ended {in_words(since_last_attempt)} ago; the next may start in {left}"
        )
    if enough:
        return Decision("retrain", f"{outcomes}, at least {rules.min_new_outcomes:,} were asked for")
    return Decision("retrain", f"the active model's dataset is {in_words(age or rules.max_age)} old, and there are {outcomes}")


def _after_failure(state: RetrainingState, rules: RetrainingRules) -> Decision:
    failed, last = len(state.failures), state.failures[0]
    if state.blocked_by is not None and not rules.retry_blocked:
        since_failure = state.outcomes_since_active_model - last.outcomes_since_active_model
        left = last.ended_at + BLOCKED_PAUSE - state.now
        if since_failure < rules.min_new_outcomes and left > timedelta(0):
            return _wait(
                f"the check {state.blocked_by} stopped run {_short(last.run_id)}; its page says what to do. It is tried again "
                f"once {rules.min_new_outcomes:,} more outcomes are there ({max(since_failure, 0):,} so far), at the latest in "
                f"{in_words(left)}"
            )
        return Decision("retrain", f"attempt {failed + 1}, after: {last.message}", failed + 1)
    slow = failed >= rules.max_attempts
    left = last.ended_at + pause_after(failed, rules) - state.now
    if left > timedelta(0):
        reason = (
            f"retraining failed {failed} times in a row, at last in run {_short(last.run_id)}: {last.message}. It is tried "
            f"again every {in_words(MAX_BACKOFF)}, next in {in_words(left)}; `bid-assets run` tries at once"
            if slow
            else f"attempt {failed} of {rules.max_attempts} failed (run {_short(last.run_id)}: {last.message}); "
            f"the next starts in {in_words(left)}"
        )
        return Decision("wait", reason, slow=slow)
    return Decision("retrain", f"attempt {failed + 1}, after: {last.message}", failed + 1, slow=slow)


def pause_after(failures: int, rules: RetrainingRules) -> timedelta:
    """How long to wait after this many failures in a row: exponential backoff from `first_pause` to `MAX_BACKOFF`."""
    longest = max(MAX_BACKOFF, rules.first_pause)
    if failures >= rules.max_attempts:
        return longest
    return min(rules.first_pause * int(2 ** min(failures - 1, 30)), longest)


def in_words(span: timedelta) -> str:
    """A length of time as a person would say it."""
    seconds = max(0, round(span.total_seconds()))
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {name}s"
    return f"{seconds} seconds"


def _wait(reason: str) -> Decision:
    return Decision("wait", reason)


def _short(run_id: str) -> str:
    return run_id.split("-")[0]
