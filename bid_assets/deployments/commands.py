"""Deployment commands of people: approve, reject, roll back, canary, shadow, end. Each is a checked state transition and one
event.

The same functions serve the command line and the configuration of the `deployment` asset. No model is unpickled here: only its
checksum is verified.
"""

from __future__ import annotations

from bid_assets.deployments.events import (
    Action,
    ConcurrentDecisionError,
    DeploymentHistory,
    Event,
    ModelState,
    append_event,
    read_history,
)
from bid_assets.version_store.manifest import InputRef
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore
from bid_assets.version_store.version_ids import match_versions, resolve

MODEL = "trained_model"


class InvalidTransitionError(RuntimeError):
    """The model is not in a state in which this can be done; the message says which one and what can be done."""


COMMAND_ERRORS = (InvalidTransitionError, ConcurrentDecisionError, VersionNotFoundError, CorruptVersionError)
"""The errors of these commands: after any of them nothing has changed."""


def approve(store: VersionStore, version: str, by: str, reason: str, *, override: bool = False) -> Event:
    """Make a model that awaits approval the active one; with `override` one that was rejected, by the rules or by a person.

    Raises `InvalidTransitionError`, `ConcurrentDecisionError`, `VersionNotFoundError`, `CorruptVersionError`.
    """
    history = read_history(store)
    model = _resolve_model(store, history, version)
    if override and history.state(model) is ModelState.REJECTED:
        return _append_after_checksum(store, history, Event(Action.OVERRIDDEN, model, by, reason))
    hint = "; `--override` activates a rejected one all the same" if history.state(model) is ModelState.REJECTED else ""
    _require_state(history, model, ModelState.AWAITING, "approved", hint)
    return _append_after_checksum(store, history, Event(Action.APPROVED, model, by, reason))


def reject(store: VersionStore, version: str, by: str, reason: str) -> Event:
    """Reject a model that awaits approval. Raises `InvalidTransitionError`, `ConcurrentDecisionError`."""
    history = read_history(store)
    model = _resolve_model(store, history, version)
    _require_state(history, model, ModelState.AWAITING, "rejected")
    return _last_event(append_event(store, history, Event(Action.REJECTED, model, by, reason)))


def rollback(store: VersionStore, to: str | None, by: str, reason: str) -> Event:
    """Go back to the model that was active before, or to another one that once was. Raises as `approve`."""
    history = read_history(store)
    if to is not None:
        model = _resolve_model(store, history, to)
        _require_state(history, model, ModelState.RETIRED, "rolled back to")
    elif history.rollback_stack:
        model = history.rollback_stack[-1]
    else:
        raise InvalidTransitionError(
            "there is no earlier active model to go back to; `bid-assets deployments` shows the history"
        )
    return _append_after_checksum(store, history, Event(Action.ROLLED_BACK, model, by, reason))


def canary(store: VersionStore, version: str, share: float, by: str, reason: str) -> Event:
    """Let a model answer for a share of the profiles. Raises `InvalidTransitionError`, `ConcurrentDecisionError`,
    `CorruptVersionError`."""
    if not 0 < share < 1:
        raise InvalidTransitionError(f"--share is {share:g}; a canary takes more than 0 and less than 1 of the profiles")
    history = read_history(store)
    model = _resolve_inactive_model(store, history, version)
    return _append_after_checksum(store, history, Event(Action.CANARY, model, by, reason, share=share))


def shadow(store: VersionStore, version: str, by: str, reason: str) -> Event:
    """Let a model score everything and answer nothing. Raises as `canary`."""
    history = read_history(store)
    model = _resolve_inactive_model(store, history, version)
    return _append_after_checksum(store, history, Event(Action.SHADOW, model, by, reason))


def end(store: VersionStore, version: str, by: str, reason: str) -> Event:
    """End a canary or shadow. Raises `InvalidTransitionError`, `ConcurrentDecisionError`."""
    history = read_history(store)
    model = _resolve_model(store, history, version)
    running = [*history.traffic.shadows, *([history.traffic.canary.model] if history.traffic.canary is not None else [])]
    if model not in running:
        raise InvalidTransitionError(f"{version} is neither canary nor shadow; there are {_names(running) or 'none'}")
    return _last_event(append_event(store, history, Event(Action.ENDED, model, by, reason)))


def _append_after_checksum(store: VersionStore, history: DeploymentHistory, event: Event) -> Event:
    """Append an event that lets a model score bids, once its file has passed its checksum."""
    model = event.model
    store.fetch(store.manifest(model.asset, model.partition, model.version))
    return _last_event(append_event(store, history, event))


def _resolve_inactive_model(store: VersionStore, history: DeploymentHistory, version: str) -> InputRef:
    model = _resolve_model(store, history, version)
    if history.state(model) is ModelState.ACTIVE:
        raise InvalidTransitionError(f"{version} is the active model already")
    return model


def _resolve_model(store: VersionStore, history: DeploymentHistory, version: str) -> InputRef:
    """The model that a version or short id stands for: in the history, or else in the store."""
    models = {event.model.version: event.model for event in history.events}
    matches = match_versions(list(models), version)
    if matches == [version]:  # without the store, which has lost its file perhaps
        return models[version]
    window, name = resolve(store, MODEL, version)
    return models.get(name) or store.manifest(MODEL, window, name).ref


def _require_state(history: DeploymentHistory, model: InputRef, state: ModelState, transition: str, hint: str = "") -> None:
    """Raise `InvalidTransitionError` unless the model is in this state."""
    actual = history.state(model)
    if actual is state:
        return
    last = history.events_of(model)[-1:]
    event = f" ({last[0].action.value} by {last[0].by}, {last[0].at:%Y-%m-%d %H:%M:%S} UTC: {last[0].reason})" if last else ""
    others = [other for other, is_now in history.states.items() if is_now is state]
    raise InvalidTransitionError(
        f"{model.version} is {actual.value}{event}; a model to be {transition} must be {state.value}: "
        f"{_names(others) or 'none is'}{hint}"
    )


def _names(models: list[InputRef]) -> str:
    return ", ".join(model.version for model in models)


def _last_event(history: DeploymentHistory) -> Event:
    return history.events[-1]
