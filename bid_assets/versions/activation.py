"""Which model is active: one pointer, moved atomically, that names the model's version and the decision behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bid_assets.versions.manifest import InputRef, Manifest
from bid_assets.versions.store import CorruptVersion, VersionStore
from bid_assets.windows import utc_now

POINTER = "ACTIVE"


@dataclass(frozen=True)
class ActiveModel:
    """The model that is served: its version, the decision that activated it, and since when."""

    model: InputRef
    decision: InputRef
    since: datetime


def activate(store: VersionStore, model: dict[str, str], decision: Manifest) -> None:
    """Make `model` (asset, partition, version, content hash) the active one. Activating the active one changes nothing."""
    ref = InputRef(**model)
    active = active_model(store)
    if active is not None and active.model == ref:
        return
    store.move_pointer(POINTER, vars(ActiveModel(model=ref, decision=decision.ref, since=utc_now())))


def active_model(store: VersionStore) -> ActiveModel | None:
    """The active model; None where none has been activated yet. Raises `CorruptVersion`."""
    value = store.read_pointer(POINTER)
    if value is None:
        return None
    try:
        return ActiveModel(
            model=InputRef(**value["model"]),
            decision=InputRef(**value["decision"]),
            since=datetime.fromisoformat(value["since"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptVersion(f"the pointer {POINTER} of the store {store.url} names no model: {error!r}") from None
