from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.orchestration.retraining.policy import (
    FailedAttempt,
    RetrainingRequest,
    RetrainingRules,
    RetrainingState,
    decide,
    in_words,
    pause_after,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES = RetrainingRules(
    min_new_outcomes=50,
    min_interval=timedelta(hours=1),
    max_age=timedelta(days=7),
    retry_blocked=False,
    first_pause=timedelta(minutes=1),
    max_attempts=3,
)
QUIET = RetrainingState(
    now=NOW,
    window="2026-11-23",
    active_model="trained_model_1",
    dataset_created_at=NOW - timedelta(days=2),
    last_attempt_at=NOW - timedelta(days=2),
)


def failures(count: int, minutes_ago: float = 0.5, outcomes_since_active_model: int = 60) -> tuple[FailedAttempt, ...]:
    ended = NOW - timedelta(minutes=minutes_ago)
    return tuple(
        FailedAttempt(f"run{n}-x", ended - timedelta(hours=n), "no memory", outcomes_since_active_model) for n in range(count)
    )


def test_it_waits_while_nothing_was_read() -> None:
    decision = decide(RetrainingState(now=NOW), RULES)
    assert (decision.action, decision.reason) == ("wait", "nothing has been read from the application's database yet")


def test_it_waits_while_no_outcome_is_new_however_old_the_model_is() -> None:
    old = replace(QUIET, dataset_created_at=NOW - timedelta(days=400))
    assert decide(old, RULES).action == "wait"


def test_a_model_of_another_version_of_the_code_makes_it_retrain_without_any_new_outcome() -> None:
    outdated = replace(QUIET, outdated_model="trained_model_1")
    decision = decide(outdated, RULES)
    assert decision.action == "retrain"
    assert "trained_model_1, was made by another version of the code" in decision.reason
    assert decide(replace(outdated, last_attempt_at=NOW - timedelta(minutes=5)), RULES).action == "wait"


def test_enough_new_outcomes_make_it_retrain_and_the_reason_counts_them() -> None:
    decision = decide(replace(QUIET, outcomes_since_active_model=50, outcomes_since_last_dataset=50), RULES)
    assert (decision.action, decision.attempt) == ("retrain", 1)
    assert "50 new outcomes" in decision.reason


def test_too_few_new_outcomes_make_it_wait_and_the_reason_says_how_many_are_wanted() -> None:
    decision = decide(replace(QUIET, outcomes_since_active_model=49, outcomes_since_last_dataset=49), RULES)
    assert decision.action == "wait"
    assert "49 new outcomes since the last dataset, of at least 50" in decision.reason


def test_what_a_rejected_challenger_has_learned_from_is_not_new_again() -> None:
    decision = decide(replace(QUIET, outcomes_since_active_model=500, outcomes_since_last_dataset=3), RULES)
    assert decision.action == "wait"
    assert "(500 since the active model's)" in decision.reason


def test_the_first_model_waits_for_enough_outcomes_too() -> None:
    nothing_yet = RetrainingState(now=NOW, window="2026-11-23", outcomes_since_active_model=30, outcomes_since_last_dataset=30)
    assert "no model is active yet" in decide(nothing_yet, RULES).reason
    assert (
        decide(replace(nothing_yet, outcomes_since_active_model=60, outcomes_since_last_dataset=60), RULES).action == "retrain"
    )


def test_it_does_not_retrain_sooner_than_the_minimum_interval() -> None:
    state = replace(
        QUIET, outcomes_since_active_model=500, outcomes_since_last_dataset=500, last_attempt_at=NOW - timedelta(minutes=59)
    )
    decision = decide(state, RULES)
    assert decision.action == "wait"
    assert "may start in 60 seconds" in decision.reason
    assert decide(replace(state, last_attempt_at=NOW - timedelta(minutes=60)), RULES).action == "retrain"


def test_an_old_dataset_and_one_new_outcome_make_it_retrain() -> None:
    state = replace(
        QUIET, dataset_created_at=NOW - timedelta(days=7), outcomes_since_active_model=1, outcomes_since_last_dataset=1
    )
    decision = decide(state, RULES)
    assert decision.action == "retrain"
    assert "7 days old" in decision.reason


@pytest.mark.parametrize("runs", ["retraining_runs", "refreshing_runs"])
def test_it_waits_for_a_run_in_flight_and_names_it(runs: str) -> None:
    state = replace(QUIET, outcomes_since_active_model=500, outcomes_since_last_dataset=500, **{runs: ("abc-def",)})
    decision = decide(state, RULES)
    assert decision.action == "wait"
    assert "run abc is in flight" in decision.reason


def test_a_flag_makes_it_retrain_with_one_new_outcome() -> None:
    request = RetrainingRequest("drift", "amounts have doubled", NOW - timedelta(hours=1))
    decision = decide(replace(QUIET, outcomes_since_active_model=1, outcomes_since_last_dataset=1, requests=(request,)), RULES)
    assert (decision.action, decision.reason) == ("retrain", "drift: amounts have doubled")


def test_a_flag_raised_before_the_last_retraining_has_been_answered() -> None:
    request = RetrainingRequest("drift", "amounts have doubled", NOW - timedelta(days=3))
    assert (
        decide(replace(QUIET, outcomes_since_active_model=1, outcomes_since_last_dataset=1, requests=(request,)), RULES).action
        == "wait"
    )


def test_a_dataset_without_a_decision_makes_it_retrain_though_no_outcome_is_new() -> None:
    decision = decide(replace(QUIET, undecided_dataset="training_dataset_1"), RULES)
    assert decision.action == "retrain"
    assert "training_dataset_1 ended before the decision" in decision.reason


def test_a_dataset_without_a_decision_waits_like_any_other_after_failures_of_the_loop_itself() -> None:
    state = replace(QUIET, undecided_dataset="training_dataset_1", failures=failures(3))
    assert decide(state, RULES).action == "wait"


def test_after_a_failure_it_pauses_and_then_tries_again_whatever_is_new() -> None:
    waiting = decide(replace(QUIET, failures=failures(1)), RULES)
    assert (waiting.action, "starts in 30 seconds" in waiting.reason) == ("wait", True)
    again = decide(replace(QUIET, failures=failures(1, minutes_ago=1)), RULES)
    assert (again.action, again.attempt) == ("retrain", 2)
    assert "no memory" in again.reason


def test_after_many_failures_it_tries_once_an_hour_for_ever_and_says_so() -> None:
    waiting = decide(replace(QUIET, failures=failures(3, minutes_ago=59)), RULES)
    assert (waiting.action, waiting.slow) == ("wait", True)
    assert "failed 3 times in a row, at last in run run0: no memory" in waiting.reason
    assert "next in 60 seconds; `bid-assets run` tries at once" in waiting.reason
    again = decide(replace(QUIET, failures=failures(300, minutes_ago=60)), RULES)
    assert (again.action, again.attempt, again.slow) == ("retrain", 301, True)


def test_a_blocked_dataset_is_tried_again_only_when_enough_new_outcomes_are_there() -> None:
    blocked = replace(
        QUIET, failures=failures(1, minutes_ago=600), blocked_by="label_rate_as_before", outcomes_since_active_model=100
    )
    decision = decide(blocked, RULES)
    assert decision.action == "wait"
    assert "label_rate_as_before" in decision.reason
    assert decide(replace(blocked, outcomes_since_active_model=110), RULES).action == "retrain"
    assert decide(blocked, replace(RULES, retry_blocked=True)).action == "retrain"


def test_a_blocked_dataset_is_tried_again_after_a_day_since_rows_may_have_been_mended() -> None:
    blocked = replace(QUIET, failures=failures(1, minutes_ago=24 * 60), blocked_by="rejected_rows_below_limit")
    assert decide(blocked, RULES).action == "retrain"


def test_pauses_double_until_the_last_attempt_and_never_exceed_an_hour() -> None:
    patient = replace(RULES, max_attempts=100)
    assert [pause_after(n, patient) // timedelta(minutes=1) for n in (1, 2, 3, 4, 90)] == [1, 2, 4, 8, 60]
    assert pause_after(3, RULES) == timedelta(hours=1)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=59), "59 seconds"),
        (timedelta(minutes=3), "3 minutes"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(days=2, hours=12), "2.5 days"),
        (timedelta(seconds=-5), "0 seconds"),
    ],
)
def test_lengths_of_time_are_told_as_a_person_would(span: timedelta, words: str) -> None:
    assert in_words(span) == words


moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
states = st.builds(
    RetrainingState,
    now=moments,
    window=st.none() | st.just("2026-11-23"),
    active_model=st.none() | st.just("m"),
    dataset_created_at=st.none() | moments,
    outcomes_since_active_model=st.integers(0, 10_000),
    outcomes_since_last_dataset=st.integers(0, 10_000),
    last_attempt_at=st.none() | moments,
    failures=st.integers(0, 6).map(lambda count: failures(count)),
    blocked_by=st.none() | st.just("schema_as_before"),
    undecided_dataset=st.none() | st.just("d"),
    retraining_runs=st.sampled_from([(), ("a-b",)]),
    refreshing_runs=st.sampled_from([(), ("c-d",)]),
)


@given(states)
def test_it_always_gives_a_reason_and_never_two_retrainings_at_once(state: RetrainingState) -> None:
    decision = decide(state, RULES)
    assert decision.reason
    if state.retraining_runs or state.refreshing_runs or state.window is None:
        assert decision.action == "wait"


@given(states, st.integers(0, 1000))
def test_more_new_outcomes_never_turn_a_retraining_into_waiting(state: RetrainingState, more: int) -> None:
    if decide(state, RULES).action == "retrain":
        richer = replace(
            state,
            outcomes_since_active_model=state.outcomes_since_active_model + more,
            outcomes_since_last_dataset=state.outcomes_since_last_dataset + more,
        )
        assert decide(richer, RULES).action == "retrain"
