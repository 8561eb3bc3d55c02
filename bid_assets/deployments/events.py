"""Deployment events: an append-only history, and the state of models and traffic that it reduces to.

The history is the truth: one immutable file per event, numbered. Event N+1 can be put once, so of two people who decide at
once on the same state one wins and the other gets a `ConcurrentDecisionError`. The pointer ACTIVE holds the reduced state for
quick reading, with the number of its last event; a reader who finds the next event there (the writer was killed between the
two), or does not find that event (the pointer is ahead of the history), reduces the history. The commands of people are in
`commands.py`.

Each event is stored twice: in its own file, and in that of the next event (`previous`) or in the pointer (`last`). So one file
that is damaged or gone costs nothing: readers take the copy, `bid-assets verify --repair` restores the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from bid_assets.common.windows import utc_now
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.store import VersionStore

POINTER = "ACTIVE"
LOG = "deployments"


class Action(StrEnum):
    """The type of a deployment event."""

    ACTIVATED = "activated"
    REJECTED = "rejected"
    AWAITING = "awaiting approval"
    APPROVED = "approved"
    OVERRIDDEN = "approved against its rejection"
    ROLLED_BACK = "rolled back to"
    CANARY = "canary"
    SHADOW = "shadow"
    ENDED = "ended"


class ModelState(StrEnum):
    """The deployment state of a model. A version that no event names is a candidate."""

    CANDIDATE = "candidate"
    REJECTED = "rejected"
    AWAITING = "awaiting approval"
    ACTIVE = "active"
    RETIRED = "retired"


_SERVING = (Action.ACTIVATED, Action.APPROVED, Action.OVERRIDDEN, Action.ROLLED_BACK)


@dataclass(frozen=True)
class Event:
    """One deployment event: of which model, by whom, why. `decision`: the decision's version, where the loop decided."""

    action: Action
    model: InputRef
    by: str
    reason: str
    decision: InputRef | None = None
    share: float | None = None
    """The share of the profiles, for a canary."""
    at: datetime = field(default_factory=utc_now)
    number: int = 0

    def table_row(self) -> dict[str, str]:
        """A row of the history, for people."""
        action = self.action.value if self.share is None else f"{self.action.value} for {self.share:.0%} of the profiles"
        return {
            "event": str(self.number),
            "when": f"{self.at:%Y-%m-%d %H:%M:%S}",
            "model": self.model.version,
            "window": self.model.partition,
            "what": action,
            "by": self.by,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class ActiveModel:
    """The model that is served: its version, its decision, since when, and the number of the event that activated it."""

    model: InputRef
    decision: InputRef | None
    since: datetime
    event: int


@dataclass(frozen=True)
class Canary:
    """A model that answers for a share of the profiles."""

    model: InputRef
    share: float


@dataclass(frozen=True)
class Traffic:
    """Who answers: the active model, perhaps a canary beside it, and shadows that score and answer nothing."""

    event: int = 0
    active: ActiveModel | None = None
    canary: Canary | None = None
    shadows: tuple[InputRef, ...] = ()


@dataclass(frozen=True)
class DeploymentHistory:
    """All events in their order, and the state that they reduce to."""

    events: tuple[Event, ...] = ()
    traffic: Traffic = Traffic()
    states: Mapping[InputRef, ModelState] = field(default_factory=dict)
    rollback_stack: tuple[InputRef, ...] = ()
    """Models that a rollback goes back to, the next one last."""

    def state(self, model: InputRef) -> ModelState:
        """The state of a model."""
        return self.states.get(model, ModelState.CANDIDATE)

    def events_of(self, model: InputRef) -> list[Event]:
        """The events of a model."""
        return [event for event in self.events if event.model == model]

    def apply(self, event: Event) -> DeploymentHistory:
        """The history with one more event: the reducer."""
        states, rollback_stack, traffic = dict(self.states), self.rollback_stack, replace(self.traffic, event=event.number)
        active = traffic.active.model if traffic.active is not None else None
        if event.action in _SERVING:
            if active is not None and active != event.model:
                states[active] = ModelState.RETIRED
            rollback_stack = _rollback_stack(rollback_stack, active, event)
            states[event.model] = ModelState.ACTIVE
            decision = event.decision or self._decision(event.model)
            traffic = _without(replace(traffic, active=ActiveModel(event.model, decision, event.at, event.number)), event.model)
        elif event.action in (Action.REJECTED, Action.AWAITING):
            states[event.model] = ModelState(event.action.value)
        elif event.action is Action.CANARY:
            traffic = replace(_without(traffic, event.model), canary=Canary(event.model, event.share or 0.0))
        elif event.action is Action.SHADOW:
            rest = _without(traffic, event.model)
            traffic = replace(rest, shadows=(*rest.shadows, event.model))
        else:
            traffic = _without(traffic, event.model)
        return DeploymentHistory((*self.events, event), traffic, states, rollback_stack)

    def with_traffic(self, traffic: Traffic) -> DeploymentHistory:
        """The same events, reduced to this traffic, which is known to be right."""
        retired = {model: ModelState.RETIRED for model, state in self.states.items() if state is ModelState.ACTIVE}
        states = {**self.states, **retired}
        if traffic.active is not None:
            states[traffic.active.model] = ModelState.ACTIVE
        return replace(self, traffic=traffic, states=states)

    def _decision(self, model: InputRef) -> InputRef | None:
        return next((event.decision for event in reversed(self.events_of(model)) if event.decision is not None), None)


class ConcurrentDecisionError(RuntimeError):
    """Another decision was recorded first; the message names the event."""


def event_path(number: int) -> str:
    """Where an event lies in the store."""
    return f"{LOG}/{number:08}.json"


def event_number(path: str) -> int:
    """The number of the event that lies there. Raises `ValueError`."""
    return int(path.removeprefix(f"{LOG}/").removesuffix(".json"))


def is_event_path(path: str) -> bool:
    """Whether an event lies there."""
    name = path.removeprefix(f"{LOG}/").removesuffix(".json")
    return name.isdigit() and path == event_path(int(name))


class EventLog(NamedTuple):
    """The events that can be read, by number; which files of them must be restored from copies; and which are lost for good."""

    events: dict[int, Event]
    restorable: tuple[int, ...]
    lost: tuple[int, ...]
    last: int
    """Number of the last event, be it readable or not; 0 where there is none."""


def read_log(store: VersionStore) -> EventLog:
    """All events; where the file of one is damaged or gone, its copy in the next event or in the pointer."""
    entries, pointer = store.entries(LOG), store.read_pointer(POINTER) or {}
    copies = {number - 1: entry.get("previous") for number, entry in entries.items() if entry is not None}
    last = max(entries, default=0)
    if pointer.get("last") is not None and pointer.get("event") in (last, last + 1):
        last = int(pointer["event"])
        copies[last] = pointer["last"]
    events: dict[int, Event] = {}
    restorable: list[int] = []
    lost: list[int] = []
    for number in range(1, last + 1):
        event = _parse_event(store, number, entries.get(number))
        if event is None:
            event = _parse_event(store, number, copies.get(number))
            (lost if event is None else restorable).append(number)
        if event is not None:
            events[number] = event
    return EventLog(events, tuple(restorable), tuple(lost), last)


def read_history(store: VersionStore) -> DeploymentHistory:
    """The history, but for events that are lost. The state after a lost event comes from the pointer, which has its effect."""
    log = read_log(store)
    pointer = _read_pointer(store) if log.lost else None
    history = DeploymentHistory()
    for number in range(1, log.last + 1):
        if number in log.events:
            history = history.apply(log.events[number])
        if pointer is not None and pointer.event == number > log.lost[0]:
            history = history.with_traffic(pointer)
    return replace(history, traffic=replace(history.traffic, event=log.last))


def append_event(store: VersionStore, history: DeploymentHistory, event: Event) -> DeploymentHistory:
    """Append an event to `history`, and move the pointer. Raises `ConcurrentDecisionError` if the store has later events
    already."""
    number = history.traffic.event + 1
    numbered = replace(event, number=number)
    previous = asdict(history.events[-1]) if history.events and history.events[-1].number == number - 1 else None
    if not store.append(LOG, number, {**asdict(numbered), "previous": previous}):
        other = _parse_event(store, number, store.entries(LOG, after=number - 1).get(number))
        if other is None:
            raise ConcurrentDecisionError(f"event {number} of {LOG}/ is there already and cannot be read; nothing was changed")
        raise ConcurrentDecisionError(
            f"{other.by} was quicker: {other.model.version} is {other.action.value} since {other.at:%Y-%m-%d %H:%M:%S} UTC "
            f"({other.reason}); nothing was changed. Look at `bid-assets deployments`, then decide again"
        )
    extended = history.apply(numbered)
    write_pointer(store, extended)
    return extended


def pointer_mismatch(store: VersionStore) -> str | None:
    """How the pointer differs from the state that the history reduces to; None where it does not."""
    pointer, expected = _read_pointer(store), read_history(store).traffic
    if pointer == expected or (pointer is None and not expected.event):
        return None
    if pointer is None:
        return f"it is gone or damaged; the history has {expected.event} events"
    if pointer.event != expected.event:
        return f"it is of event {pointer.event}, but the last event of the history is {expected.event}"
    return "it does not say what the history folds to"


def write_pointer(store: VersionStore, history: DeploymentHistory) -> None:
    """Set the pointer to the state that the history reduces to."""
    last = history.events[-1] if history.events and history.events[-1].number == history.traffic.event else None
    store.move_pointer(POINTER, {**asdict(history.traffic), "last": None if last is None else asdict(last)})


def read_traffic(store: VersionStore) -> Traffic:
    """The current traffic: three small reads, cheap enough for every second.

    A pointer that is damaged, behind the history or ahead of it is not followed: the history is.
    """
    pointer = _read_pointer(store)
    event = pointer.event if pointer is not None else 0
    exists, next_exists = store.has_entries(LOG, event, event + 1)
    if pointer is not None and not exists:
        store.warn_of_damage(POINTER, f"it is ahead of the history, which has no event {event}")
    return pointer if pointer is not None and exists and not next_exists else read_history(store).traffic


def active_model(store: VersionStore) -> ActiveModel | None:
    """The active model; None where none has been activated yet."""
    return read_traffic(store).active


def record_decision(
    store: VersionStore, model: InputRef, outcome: ModelState, reason: str, decision: InputRef, by: str
) -> None:
    """Append the loop's decision on a model to the history, once. After a model has served, only people move it.

    `outcome`: active, awaiting approval or rejected.
    """
    action = {
        ModelState.ACTIVE: Action.ACTIVATED,
        ModelState.AWAITING: Action.AWAITING,
        ModelState.REJECTED: Action.REJECTED,
    }[outcome]
    while True:
        history = read_history(store)
        if is_recorded(history, model, decision):
            return
        try:
            append_event(store, history, Event(action, model, by, reason, decision))
        except ConcurrentDecisionError:
            continue
        return


def is_recorded(history: DeploymentHistory, model: InputRef, decision: InputRef) -> bool:
    """Whether the history needs no event for a decision: it has one, or the model has served."""
    served = history.state(model) in (ModelState.ACTIVE, ModelState.RETIRED)
    return served or any(event.decision == decision for event in history.events_of(model))


def _rollback_stack(rollback_stack: tuple[InputRef, ...], active: InputRef | None, event: Event) -> tuple[InputRef, ...]:
    """A rollback to a model of the stack pops it and the models above it; any other change pushes the former active model."""
    if event.action is Action.ROLLED_BACK and event.model in rollback_stack:
        return rollback_stack[: rollback_stack.index(event.model)]
    stack = rollback_stack if active is None else (*rollback_stack, active)
    return tuple(model for model in stack if model != event.model)


def _without(traffic: Traffic, model: InputRef) -> Traffic:
    canary = None if traffic.canary is not None and traffic.canary.model == model else traffic.canary
    return replace(traffic, canary=canary, shadows=tuple(each for each in traffic.shadows if each != model))


def _parse_event(store: VersionStore, number: int, entry: Mapping[str, Any] | None) -> Event | None:
    """The event of a log entry; None for one that is absent or names no event of this number."""
    if entry is None:
        return None
    try:
        event = Event(
            action=Action(entry["action"]),
            model=InputRef(**entry["model"]),
            by=entry["by"],
            reason=entry["reason"],
            decision=None if entry["decision"] is None else InputRef(**entry["decision"]),
            share=entry["share"],
            at=datetime.fromisoformat(entry["at"]),
            number=int(entry["number"]),
        )
        if event.number != number:
            raise ValueError(f"it is event {event.number}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        store.warn_of_damage(event_path(number), f"it names no event: {error!r}")
        return None
    return event


def _read_pointer(store: VersionStore) -> Traffic | None:
    """The value of the pointer; None where there is none, or one that names no models."""
    value = store.read_pointer(POINTER)
    try:
        return None if value is None else _parse_traffic(value)
    except (KeyError, TypeError, ValueError) as error:
        store.warn_of_damage(POINTER, f"it names no models: {error!r}")
        return None


def _parse_traffic(value: Mapping[str, Any]) -> Traffic:
    active, canary = value["active"], value["canary"]
    return Traffic(
        event=int(value["event"]),
        active=None
        if active is None
        else ActiveModel(
            model=InputRef(**active["model"]),
            decision=None if active["decision"] is None else InputRef(**active["decision"]),
            since=datetime.fromisoformat(active["since"]),
            event=int(active["event"]),
        ),
        canary=None if canary is None else Canary(InputRef(**canary["model"]), float(canary["share"])),
        shadows=tuple(InputRef(**shadow) for shadow in value["shadows"]),
    )
