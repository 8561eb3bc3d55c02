from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bid_assets.deployments import commands
from bid_assets.deployments.commands import InvalidTransitionError
from bid_assets.deployments.events import (
    LOG,
    POINTER,
    Action,
    ConcurrentDecisionError,
    DeploymentHistory,
    Event,
    ModelState,
    active_model,
    append_event,
    read_history,
    read_traffic,
    record_decision,
)
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore
from bid_assets_tests.version_store.drafts import write_text

WINDOWS = ("2026-01-05", "2026-01-12", "2026-01-19", "2026-01-26")


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


def model(store: VersionStore, number: int = 0) -> InputRef:
    return write_text(store, f"model {number}", WINDOWS[number], asset="trained_model").manifest.ref


def decision(store: VersionStore, number: int = 0, text: str = "good") -> InputRef:
    return write_text(store, text, WINDOWS[number], asset="deployment").manifest.ref


def decide(store: VersionStore, number: int, outcome: ModelState, text: str = "good") -> InputRef:
    ref = model(store, number)
    record_decision(store, ref, outcome, text, decision(store, number, text), "run 1")
    return ref


def active(store: VersionStore) -> InputRef | None:
    found = active_model(store)
    return None if found is None else found.model


def test_no_model_is_active_at_first(store: VersionStore) -> None:
    assert active_model(store) is None


def test_the_active_model_names_its_version_its_decision_and_since_when(store: VersionStore) -> None:
    ref = decide(store, 0, ModelState.ACTIVE)
    found = active_model(store)
    assert found is not None
    assert (found.model, found.decision, found.event) == (ref, decision(store), 1)
    assert found.since == read_history(store).events[0].at


def test_the_same_decision_again_is_no_event(store: VersionStore) -> None:
    decide(store, 0, ModelState.REJECTED)
    decide(store, 0, ModelState.REJECTED)
    assert len(read_history(store).events) == 1


def test_another_decision_on_a_rejected_model_counts(store: VersionStore) -> None:
    decide(store, 0, ModelState.REJECTED, "too weak")
    ref = decide(store, 0, ModelState.ACTIVE, "floors were lowered")
    assert active(store) == ref


def test_no_decision_of_the_loop_takes_the_active_model_down(store: VersionStore) -> None:
    ref = decide(store, 0, ModelState.ACTIVE)
    decide(store, 0, ModelState.REJECTED, "floors were raised")
    assert active(store) == ref
    assert read_history(store).state(ref) is ModelState.ACTIVE


def test_the_loop_does_not_bring_back_a_model_that_a_person_has_rolled_back(store: VersionStore) -> None:
    first, second = decide(store, 0, ModelState.ACTIVE), decide(store, 1, ModelState.ACTIVE)
    commands.rollback(store, None, by="ann", reason="complaints")
    decide(store, 1, ModelState.ACTIVE, "decided again under other settings")
    assert (active(store), read_history(store).state(second)) == (first, ModelState.RETIRED)


def test_a_model_that_is_replaced_is_retired(store: VersionStore) -> None:
    first, second = decide(store, 0, ModelState.ACTIVE), decide(store, 1, ModelState.ACTIVE)
    assert read_history(store).states == {first: ModelState.RETIRED, second: ModelState.ACTIVE}


def test_a_model_that_no_event_names_is_a_candidate(store: VersionStore) -> None:
    assert read_history(store).state(model(store)) is ModelState.CANDIDATE


def test_approving_makes_a_waiting_model_active_and_says_who_when_and_why(store: VersionStore) -> None:
    ref = decide(store, 0, ModelState.AWAITING)
    assert active(store) is None
    event = commands.approve(store, ref.version, by="ann", reason="looks right")
    assert active(store) == ref
    assert (event.by, event.reason, event.number) == ("ann", "looks right", 2)
    found = active_model(store)
    assert found is not None
    assert found.decision == decision(store)


def test_a_rejected_model_cannot_be_approved(store: VersionStore) -> None:
    ref = decide(store, 0, ModelState.AWAITING)
    commands.reject(store, ref.version, by="ann", reason="odd importances")
    with pytest.raises(
        InvalidTransitionError, match=r"is rejected \(rejected by ann, .*: odd importances\).*must be awaiting approval"
    ):
        commands.approve(store, ref.version, by="bob", reason="")


@pytest.mark.parametrize("by_a_person", [False, True])
def test_a_person_may_activate_a_rejected_model_and_the_history_says_that_it_was_rejected(
    store: VersionStore, by_a_person: bool
) -> None:
    first = decide(store, 0, ModelState.ACTIVE)
    ref = decide(store, 1, ModelState.AWAITING if by_a_person else ModelState.REJECTED, "a slice is worse")
    if by_a_person:
        commands.reject(store, ref.version, by="bob", reason="odd")
    with pytest.raises(InvalidTransitionError, match="`--override` activates a rejected one all the same"):
        commands.approve(store, ref.version, by="ann", reason="that slice is gone")
    event = commands.approve(store, ref.version[-8:], by="ann", reason="that slice is gone", override=True)
    assert (event.action, event.by, event.reason) == (Action.OVERRIDDEN, "ann", "that slice is gone")
    assert (active(store), read_history(store).state(first)) == (ref, ModelState.RETIRED)
    commands.rollback(store, None, by="ann", reason="no better")
    assert active(store) == first


def test_the_loop_does_not_undo_what_a_person_has_overridden(store: VersionStore) -> None:
    ref = decide(store, 0, ModelState.REJECTED, "a slice is worse")
    commands.approve(store, ref.version, by="ann", reason="that slice is gone", override=True)
    decide(store, 0, ModelState.REJECTED, "decided again under other settings")
    assert active(store) == ref
    assert read_history(store).state(ref) is ModelState.ACTIVE


def test_an_override_is_for_rejected_models_only(store: VersionStore) -> None:
    ref = model(store)
    with pytest.raises(InvalidTransitionError, match="is candidate; a model to be approved must be awaiting approval"):
        commands.approve(store, ref.version, by="ann", reason="why not", override=True)


def test_a_model_that_the_store_does_not_have_cannot_be_approved(store: VersionStore) -> None:
    with pytest.raises(VersionNotFoundError, match="bid-assets versions trained_model"):
        commands.approve(store, "trained_model_x", by="ann", reason="")


def test_rolling_back_again_and_again_goes_further_back(store: VersionStore) -> None:
    refs = [decide(store, number, ModelState.ACTIVE) for number in range(3)]
    commands.rollback(store, None, by="ann", reason="complaints")
    assert active(store) == refs[1]
    commands.rollback(store, None, by="ann", reason="still")
    assert active(store) == refs[0]
    with pytest.raises(InvalidTransitionError, match="no earlier active model"):
        commands.rollback(store, None, by="ann", reason="still")


def test_rolling_back_to_a_version_may_go_back_and_forth(store: VersionStore) -> None:
    refs = [decide(store, number, ModelState.ACTIVE) for number in range(3)]
    commands.rollback(store, refs[0].version, by="ann", reason="")
    commands.rollback(store, refs[2].version, by="ann", reason="")
    assert active(store) == refs[2]


def test_rolling_back_to_a_model_that_never_was_active_is_refused(store: VersionStore) -> None:
    decide(store, 0, ModelState.ACTIVE)
    ref = decide(store, 1, ModelState.REJECTED)
    with pytest.raises(InvalidTransitionError, match="is rejected"):
        commands.rollback(store, ref.version, by="ann", reason="")


def test_after_a_rollback_a_new_model_may_be_activated_and_a_rollback_leads_to_the_one_before_it(store: VersionStore) -> None:
    refs = [decide(store, number, ModelState.ACTIVE) for number in range(2)]
    commands.rollback(store, None, by="ann", reason="")
    decide(store, 2, ModelState.ACTIVE)
    commands.rollback(store, None, by="ann", reason="")
    assert active(store) == refs[0]


def test_a_model_whose_file_fails_its_checksum_cannot_be_activated(store: VersionStore) -> None:
    first = decide(store, 0, ModelState.ACTIVE)
    second = decide(store, 1, ModelState.ACTIVE)
    Path(store.file_url(store.manifest(first.asset, first.partition, first.version))).write_text("harmed")
    with pytest.raises(CorruptVersionError, match="must not be used"):
        commands.rollback(store, None, by="ann", reason="")
    assert active(store) == second


def test_a_decision_on_a_history_that_has_gone_on_is_refused_and_names_the_winner(store: VersionStore) -> None:
    ref = decide(store, 0, ModelState.AWAITING)
    seen = read_history(store)
    commands.approve(store, ref.version, by="ann", reason="fine")
    with pytest.raises(
        ConcurrentDecisionError, match=r"ann was quicker: .* is approved since .* \(fine\); nothing was changed"
    ):
        append_event(store, seen, Event(Action.REJECTED, ref, "bob", "no"))
    assert active(store) == ref


def test_a_writer_killed_between_event_and_pointer_has_decided_all_the_same(store: VersionStore) -> None:
    decide(store, 0, ModelState.ACTIVE)
    before = store.read_pointer(POINTER)
    second = decide(store, 1, ModelState.ACTIVE)
    assert before is not None
    store.move_pointer(POINTER, before)
    assert active(store) == second
    third = decide(store, 2, ModelState.ACTIVE)
    assert active(store) == third


def event_file(store: VersionStore, number: int) -> Path:
    return Path(store.url) / LOG / f"{number:08}.json"


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("damage", [None, b"", b'{"action": "nonsense"}'])
def test_an_event_whose_file_is_damaged_or_gone_is_read_from_its_copy(
    store: VersionStore, number: int, damage: bytes | None
) -> None:
    for each in range(3):
        decide(store, each, ModelState.ACTIVE)
    before = read_history(store)
    if damage is None:
        event_file(store, number).unlink()
    else:
        event_file(store, number).write_bytes(damage)
    assert read_history(store) == before
    assert active_model(store) == before.traffic.active
    fourth = decide(store, 3, ModelState.ACTIVE)
    assert [event.number for event in read_history(store).events] == [1, 2, 3, 4]
    assert active(store) == fourth


def test_after_an_event_that_is_lost_the_pointer_says_what_is_active(store: VersionStore) -> None:
    decide(store, 0, ModelState.ACTIVE)
    second = decide(store, 1, ModelState.ACTIVE)
    decide(store, 2, ModelState.REJECTED)
    before = read_history(store)
    event_file(store, 3).write_text("{}")
    event_file(store, 2).write_text("{}")
    assert read_history(store).traffic == before.traffic
    assert active(store) == second
    fourth = decide(store, 3, ModelState.ACTIVE)
    assert active(store) == fourth


def test_a_pointer_that_is_ahead_of_the_history_is_not_followed(store: VersionStore, caplog: pytest.LogCaptureFixture) -> None:
    first = decide(store, 0, ModelState.ACTIVE)
    for each in (1, 2):
        decide(store, each, ModelState.ACTIVE)
    for number in (2, 3):
        event_file(store, number).unlink()
    pointer = store.read_pointer(POINTER)
    assert pointer is not None
    store.move_pointer(POINTER, {**pointer, "last": None})
    assert active(store) == first
    assert "ACTIVE is damaged and left out: it is ahead of the history, which has no event 3" in caplog.text


def test_a_pointer_that_names_no_model_is_made_good_by_the_history(store: VersionStore) -> None:
    first = decide(store, 0, ModelState.ACTIVE)
    store.move_pointer(POINTER, {"active": {}})
    assert active(store) == first


def test_canary_and_shadow_run_beside_the_active_model_until_they_end(store: VersionStore) -> None:
    first = decide(store, 0, ModelState.ACTIVE)
    second, third = model(store, 1), model(store, 2)
    commands.canary(store, second.version, 0.1, by="ann", reason="try")
    commands.shadow(store, third.version, by="ann", reason="watch")
    now = read_traffic(store)
    assert now.active is not None
    assert now.active.model == first
    assert now.canary is not None
    assert (now.canary.model, now.canary.share) == (second, 0.1)
    assert now.shadows == (third,)
    commands.end(store, second.version, by="ann", reason="seen enough")
    commands.end(store, third.version, by="ann", reason="seen enough")
    assert (read_traffic(store).canary, read_traffic(store).shadows) == (None, ())


def test_a_canary_that_is_activated_is_no_canary_any_more(store: VersionStore) -> None:
    decide(store, 0, ModelState.ACTIVE)
    ref = decide(store, 1, ModelState.AWAITING)
    commands.canary(store, ref.version, 0.5, by="ann", reason="")
    commands.approve(store, ref.version, by="ann", reason="")
    assert read_traffic(store).canary is None


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_canary_takes_a_real_share(store: VersionStore, share: float) -> None:
    with pytest.raises(InvalidTransitionError, match="more than 0 and less than 1"):
        commands.canary(store, model(store).version, share, by="ann", reason="")


def test_ending_what_does_not_run_is_refused(store: VersionStore) -> None:
    with pytest.raises(InvalidTransitionError, match="neither canary nor shadow"):
        commands.end(store, model(store).version, by="ann", reason="")


def _try_to_approve(url: str, version: str, name: str, start: Any, answers: Any) -> None:
    start.wait()
    try:
        commands.approve(VersionStore(url), version, by=name, reason="mine")
        answers.put(("won", name))
    except (ConcurrentDecisionError, InvalidTransitionError) as error:
        answers.put((str(error), name))


def test_of_people_who_approve_at_once_one_wins_and_the_others_are_told(store: VersionStore) -> None:
    ref = decide(store, 0, ModelState.AWAITING)
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(4), context.Queue()
    people = [
        context.Process(target=_try_to_approve, args=(store.url, ref.version, name, start, answers))
        for name in ("ann", "bob", "cleo", "dan")
    ]
    for person in people:
        person.start()
    found = [answers.get(timeout=30) for _ in people]
    for person in people:
        person.join()
    winners = [name for answer, name in found if answer == "won"]
    assert len(winners) == 1
    assert all(winners[0] in answer for answer, _ in found if answer != "won")
    assert [event.by for event in read_history(store).events] == ["run 1", winners[0]]


MODELS = [InputRef("trained_model", window, f"trained_model_{window}", "x") for window in WINDOWS]
STEPS = st.lists(st.tuples(st.sampled_from(list(Action)), st.sampled_from(MODELS)), max_size=25)


@given(STEPS)
@settings(max_examples=200)
def test_property_any_history_has_at_most_one_active_model_and_it_is_the_one_that_answers(
    steps: list[tuple[Action, InputRef]],
) -> None:
    now = DeploymentHistory()
    for number, (action, ref) in enumerate(steps, start=1):
        if now.state(ref) is ModelState.ACTIVE and action in (Action.REJECTED, Action.AWAITING, Action.CANARY, Action.SHADOW):
            continue  # `commands` and `record_decision` refuse these
        now = now.apply(replace(Event(action, ref, "x", "y", share=0.5), number=number))
        answering = [] if now.traffic.active is None else [now.traffic.active.model]
        assert [each for each, state in now.states.items() if state is ModelState.ACTIVE] == answering
        assert not set(answering) & {*now.traffic.shadows, *([now.traffic.canary.model] if now.traffic.canary else [])}
        assert not set(answering) & set(now.rollback_stack)
