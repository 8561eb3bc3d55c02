"""Wishes for a retraining, kept in the store: raised by monitoring or by a person, answered by the next retraining."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bid_assets.common.windows import utc_now
from bid_assets.version_store.store import VersionStore

POINTER = "FLAGS"


def raise_flag(store: VersionStore, name: str, reason: str) -> None:
    """Wish for a retraining because of `reason`. A flag of the same name is replaced."""
    store.move_pointer(POINTER, {**_read(store), name: {"reason": reason, "raised_at": utc_now().isoformat()}})


def lower_flag(store: VersionStore, name: str) -> None:
    """Take a wish back; nothing happens if there is none of that name."""
    flags = _read(store)
    if flags.pop(name, None) is not None:
        store.move_pointer(POINTER, flags)


def raised_flags(store: VersionStore) -> Mapping[str, tuple[str, datetime]]:
    """Name -> (reason, when it was raised)."""
    try:
        return {name: (flag["reason"], datetime.fromisoformat(flag["raised_at"])) for name, flag in _read(store).items()}
    except (KeyError, TypeError, ValueError) as error:
        store.warn_of_damage(POINTER, f"it holds no flags: {error!r}")
        return {}


def well_formed(value: Mapping[str, Any]) -> bool:
    """Whether a pointer with this value holds flags."""
    return all(isinstance(flag, Mapping) and {"reason", "raised_at"} <= flag.keys() for flag in value.values())


def _read(store: VersionStore) -> dict[str, Any]:
    return store.read_pointer(POINTER) or {}
