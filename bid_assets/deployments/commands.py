"""What people may do with models: approve, reject, roll back, canary, shadow, end. Each checked, each an event of the history.

The same functions serve the command line and the configuration of the `deployment` asset. No model is unpickled here: only its
checksum is verified.
"""

from __future__ import annotations

from bid_assets.deployments.events import Action, ConcurrentDecisionError, Event, History, State, history, record
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore
from bid_assets.version_store.version_ids import matching, resolve

MODEL = "trained_model"


class InvalidTransitionError(RuntimeError):
    """The model is not in a state in which this can be done; the message says which one and what can be done."""


REFUSALS = (InvalidTransitionError, ConcurrentDecisionError, VersionNotFoundError, CorruptVersionError)
"""What the functions here raise: all of them have changed nothing."""


def approve(store: VersionStore, version: str, by: str, reason: str, *, override: bool = False) -> Event:
    """Make a model that awaits approval the active one; with `override` one that was rejected, by the rules or by a person.

    Raises `InvalidTransitionError`, `ConcurrentDecisionError`, `VersionNotFoundError`, `CorruptVersionError`.
    """
    seen = history(store)
    model = _known(store, seen, version)
    if override and seen.state(model) is State.REJECTED:
        return _serve(store, seen, Event(Action.OVERRIDDEN, model, by, reason))
    hint = "; `--override` activates a rejected one all the same" if seen.state(model) is State.REJECTED else ""
    _expect(seen, model, State.AWAITING, "approved", hint)
    return _serve(store, seen, Event(Action.APPROVED, model, by, reason))


def reject(store: VersionStore, version: str, by: str, reason: str) -> Event:
    """Say no to a model that awaits approval. Raises `InvalidTransitionError`, `ConcurrentDecisionError`."""
    seen = history(store)
    model = _known(store, seen, version)
    _expect(seen, model, State.AWAITING, "rejected")
    return _last(record(store, seen, Event(Action.REJECTED, model, by, reason)))


def rollback(store: VersionStore, to: str | None, by: str, reason: str) -> Event:
    """Go back to the model that was active before, or to another one that once was. Raises as `approve`."""
    seen = history(store)
    if to is not None:
        model = _known(store, seen, to)
        _expect(seen, model, State.RETIRED, "rolled back to")
    elif seen.before:
        model = seen.before[-1]
    else:
        raise InvalidTransitionError(
            "there is no earlier active model to go back to; `bid-assets deployments` shows the history"
        )
    return _serve(store, seen, Event(Action.ROLLED_BACK, model, by, reason))


def canary(store: VersionStore, version: str, share: float, by: str, reason: str) -> Event:
    """Let a model answer for a share of the profiles. Raises `InvalidTransitionError`, `ConcurrentDecisionError`, `CorruptVersionError`."""
    if not 0 < share < 1:
        raise InvalidTransitionError(f"--share is {share:g}; a canary takes more than 0 and less than 1 of the profiles")
    seen = history(store)
    return _serve(store, seen, Event(Action.CANARY, _beside(store, seen, version), by, reason, share=share))


def shadow(store: VersionStore, version: str, by: str, reason: str) -> Event:
    """Let a model score everything and answer nothing. Raises as `canary`."""
    seen = history(store)
    return _serve(store, seen, Event(Action.SHADOW, _beside(store, seen, version), by, reason))


def end(store: VersionStore, version: str, by: str, reason: str) -> Event:
    """End a canary or shadow. Raises `InvalidTransitionError`, `ConcurrentDecisionError`."""
    seen = history(store)
    model = _known(store, seen, version)
    running = [*seen.traffic.shadows, *([seen.traffic.canary.model] if seen.traffic.canary is not None else [])]
    if model not in running:
        raise InvalidTransitionError(f"{version} is neither canary nor shadow; there are {_names(running) or 'none'}")
    return _last(record(store, seen, Event(Action.ENDED, model, by, reason)))


def _serve(store: VersionStore, seen: History, event: Event) -> Event:
    """Record an event that lets a model score bids, once its file has passed its checksum."""
    model = event.model
    store.fetch(store.manifest(model.asset, model.partition, model.version))
    return _last(record(store, seen, event))


def _beside(store: VersionStore, seen: History, version: str) -> InputRef:
    model = _known(store, seen, version)
    if seen.state(model) is State.ACTIVE:
        raise InvalidTransitionError(f"{version} is the active model already")
    return model


def _known(store: VersionStore, seen: History, version: str) -> InputRef:
    """The model that a version or short id stands for: in the history, or else in the store."""
    models = {event.model.version: event.model for event in seen.events}
    found = matching(list(models), version)
    if found == [version]:  # no need to look at the store, which has lost its file perhaps
        return models[version]
    window, name = resolve(store, MODEL, version)
    return models.get(name) or store.manifest(MODEL, window, name).ref


def _expect(seen: History, model: InputRef, state: State, to_be: str, hint: str = "") -> None:
    actual = seen.state(model)
    if actual is state:
        return
    last = seen.of(model)[-1:]
    told = f" ({last[0].action.value} by {last[0].by}, {last[0].at:%Y-%m-%d %H:%M:%S} UTC: {last[0].reason})" if last else ""
    others = [other for other, is_now in seen.states.items() if is_now is state]
    raise InvalidTransitionError(
        f"{model.version} is {actual.value}{told}; a model to be {to_be} must be {state.value}: {_names(others) or 'none is'}{hint}"
    )


def _names(models: list[InputRef]) -> str:
    return ", ".join(model.version for model in models)


def _last(now: History) -> Event:
    return now.events[-1]
