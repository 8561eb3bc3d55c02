"""Which models are served, and how that came about: an append-only history, and the state that it folds to.

The history is the truth: one immutable file per event, numbered. Event N+1 can be put once, so of two people who decide at
once on the same state one wins and the other is told. The pointer ACTIVE holds the folded state for quick reading, with the
number of its last event; a reader who finds the next event there (the writer was killed between the two), or does not find
that event (the pointer is ahead of the history), folds the history. What people may do to it is in `approval`.

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
    """What happened to a model."""

    ACTIVATED = "activated"
    REJECTED = "rejected"
    AWAITING = "awaiting approval"
    APPROVED = "approved"
    OVERRIDDEN = "approved against its rejection"
    ROLLED_BACK = "rolled back to"
    CANARY = "canary"
    SHADOW = "shadow"
    ENDED = "ended"


class State(StrEnum):
    """What a model is now. A version that no event names is a candidate."""

    CANDIDATE = "candidate"
    REJECTED = "rejected"
    AWAITING = "awaiting approval"
    ACTIVE = "active"
    RETIRED = "retired"


_SERVING = (Action.ACTIVATED, Action.APPROVED, Action.OVERRIDDEN, Action.ROLLED_BACK)


@dataclass(frozen=True)
class Event:
    """One thing that happened: to which model, by whom, why. `decision`: the version behind it, where the loop decided."""

    action: Action
    model: InputRef
    by: str
    reason: str
    decision: InputRef | None = None
    share: float | None = None
    """Of the profiles, for a canary."""
    at: datetime = field(default_factory=utc_now)
    number: int = 0

    def in_words(self) -> dict[str, str]:
        """A row of the history, for people."""
        what = self.action.value if self.share is None else f"{self.action.value} for {self.share:.0%} of the profiles"
        return {
            "event": str(self.number),
            "when": f"{self.at:%Y-%m-%d %H:%M:%S}",
            "model": self.model.version,
            "window": self.model.partition,
            "what": what,
            "by": self.by,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class ActiveModel:
    """The model that is served: its version, the decision behind it, since when, and the event that made it so."""

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
class History:
    """All events in their order, and what they fold to."""

    events: tuple[Event, ...] = ()
    traffic: Traffic = Traffic()
    states: Mapping[InputRef, State] = field(default_factory=dict)
    before: tuple[InputRef, ...] = ()
    """Models that a rollback goes back to, the next one last."""

    def state(self, model: InputRef) -> State:
        """What a model is now."""
        return self.states.get(model, State.CANDIDATE)

    def of(self, model: InputRef) -> list[Event]:
        """What happened to a model."""
        return [event for event in self.events if event.model == model]

    def then(self, event: Event) -> History:
        """The history with one more event."""
        states, before, traffic = dict(self.states), self.before, replace(self.traffic, event=event.number)
        active = traffic.active.model if traffic.active is not None else None
        if event.action in _SERVING:
            if active is not None and active != event.model:
                states[active] = State.RETIRED
            before = _ways_back(before, active, event)
            states[event.model] = State.ACTIVE
            decision = event.decision or self._decision(event.model)
            traffic = _without(replace(traffic, active=ActiveModel(event.model, decision, event.at, event.number)), event.model)
        elif event.action in (Action.REJECTED, Action.AWAITING):
            states[event.model] = State(event.action.value)
        elif event.action is Action.CANARY:
            traffic = replace(_without(traffic, event.model), canary=Canary(event.model, event.share or 0.0))
        elif event.action is Action.SHADOW:
            rest = _without(traffic, event.model)
            traffic = replace(rest, shadows=(*rest.shadows, event.model))
        else:
            traffic = _without(traffic, event.model)
        return History((*self.events, event), traffic, states, before)

    def corrected(self, traffic: Traffic) -> History:
        """The same events, folded to what is known to be right."""
        retired = {model: State.RETIRED for model, state in self.states.items() if state is State.ACTIVE}
        states = {**self.states, **retired}
        if traffic.active is not None:
            states[traffic.active.model] = State.ACTIVE
        return replace(self, traffic=traffic, states=states)

    def _decision(self, model: InputRef) -> InputRef | None:
        return next((event.decision for event in reversed(self.of(model)) if event.decision is not None), None)


class ConcurrentDecisionError(RuntimeError):
    """Somebody else has decided first; the message names the event."""


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


class Log(NamedTuple):
    """The events that can be read, by number; which files of them must be restored from copies; and which are lost for good."""

    events: dict[int, Event]
    restorable: tuple[int, ...]
    lost: tuple[int, ...]
    last: int
    """Number of the last event, be it readable or not; 0 where there is none."""


def read_log(store: VersionStore) -> Log:
    """All events. Where the file of one is damaged or gone, the copy that the next event or the pointer has of it."""
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
        event = _parsed(store, number, entries.get(number))
        if event is None:
            event = _parsed(store, number, copies.get(number))
            (lost if event is None else restorable).append(number)
        if event is not None:
            events[number] = event
    return Log(events, tuple(restorable), tuple(lost), last)


def history(store: VersionStore) -> History:
    """Everything that has happened so far, but for events that are lost.

    What events fold to after a lost one is taken from the pointer, which knew it.
    """
    log = read_log(store)
    pointer = _pointer(store) if log.lost else None
    folded = History()
    for number in range(1, log.last + 1):
        if number in log.events:
            folded = folded.then(log.events[number])
        if pointer is not None and pointer.event == number > log.lost[0]:
            folded = folded.corrected(pointer)
    return replace(folded, traffic=replace(folded.traffic, event=log.last))


def record(store: VersionStore, seen: History, event: Event) -> History:
    """Add an event to the history as it was `seen`, and move the pointer. Raises `ConcurrentDecisionError` if it has gone on since."""
    number = seen.traffic.event + 1
    numbered = replace(event, number=number)
    previous = asdict(seen.events[-1]) if seen.events and seen.events[-1].number == number - 1 else None
    if not store.append(LOG, number, {**asdict(numbered), "previous": previous}):
        other = _parsed(store, number, store.entries(LOG, after=number - 1).get(number))
        if other is None:
            raise ConcurrentDecisionError(f"event {number} of {LOG}/ is there already and cannot be read; nothing was changed")
        raise ConcurrentDecisionError(
            f"{other.by} was quicker: {other.model.version} is {other.action.value} since {other.at:%Y-%m-%d %H:%M:%S} UTC "
            f"({other.reason}); nothing was changed. Look at `bid-assets deployments`, then decide again"
        )
    now = seen.then(numbered)
    point_to(store, now)
    return now


def pointer_problem(store: VersionStore) -> str | None:
    """In which way the pointer does not say what the history folds to; None where it does."""
    told, folded = _pointer(store), history(store).traffic
    if told == folded or (told is None and not folded.event):
        return None
    if told is None:
        return f"it is gone or damaged; the history has {folded.event} events"
    if told.event != folded.event:
        return f"it is of event {told.event}, but the last event of the history is {folded.event}"
    return "it does not say what the history folds to"


def point_to(store: VersionStore, now: History) -> None:
    """Let the pointer say what the history folds to."""
    last = now.events[-1] if now.events and now.events[-1].number == now.traffic.event else None
    store.move_pointer(POINTER, {**asdict(now.traffic), "last": None if last is None else asdict(last)})


def traffic(store: VersionStore) -> Traffic:
    """Who answers now: three small reads, cheap enough to ask every second.

    A pointer that is damaged, behind the history or ahead of it is not followed: the history is.
    """
    found = _pointer(store)
    event = found.event if found is not None else 0
    known, next_one = store.has_entries(LOG, event, event + 1)
    if found is not None and not known:
        store.warn_of_damage(POINTER, f"it is ahead of the history, which has no event {event}")
    return found if found is not None and known and not next_one else history(store).traffic


def active_model(store: VersionStore) -> ActiveModel | None:
    """The active model; None where none has been activated yet."""
    return traffic(store).active


def record_decision(store: VersionStore, model: InputRef, outcome: State, reason: str, decision: InputRef, by: str) -> None:
    """Let the loop's decision on a model be history, once. Once a model has served, only people move it.

    `outcome`: active, awaiting approval or rejected.
    """
    action = {State.ACTIVE: Action.ACTIVATED, State.AWAITING: Action.AWAITING, State.REJECTED: Action.REJECTED}[outcome]
    while True:
        seen = history(store)
        if is_recorded(seen, model, decision):
            return
        try:
            record(store, seen, Event(action, model, by, reason, decision))
        except ConcurrentDecisionError:
            continue
        return


def is_recorded(seen: History, model: InputRef, decision: InputRef) -> bool:
    """Whether the history needs no event for a decision: it has one, or the model has served."""
    served = seen.state(model) in (State.ACTIVE, State.RETIRED)
    return served or any(event.decision == decision for event in seen.of(model))


def _ways_back(before: tuple[InputRef, ...], active: InputRef | None, event: Event) -> tuple[InputRef, ...]:
    """A rollback along the way takes its target and the models after it off; any other change puts the former model on it."""
    if event.action is Action.ROLLED_BACK and event.model in before:
        return before[: before.index(event.model)]
    passed = before if active is None else (*before, active)
    return tuple(model for model in passed if model != event.model)


def _without(traffic: Traffic, model: InputRef) -> Traffic:
    canary = None if traffic.canary is not None and traffic.canary.model == model else traffic.canary
    return replace(traffic, canary=canary, shadows=tuple(each for each in traffic.shadows if each != model))


def _parsed(store: VersionStore, number: int, entry: Mapping[str, Any] | None) -> Event | None:
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


def _pointer(store: VersionStore) -> Traffic | None:
    """What the pointer says; None where there is none, or one that names no models."""
    value = store.read_pointer(POINTER)
    try:
        return None if value is None else _traffic(value)
    except (KeyError, TypeError, ValueError) as error:
        store.warn_of_damage(POINTER, f"it names no models: {error!r}")
        return None


def _traffic(value: Mapping[str, Any]) -> Traffic:
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
