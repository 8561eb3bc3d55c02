"""Requests for a retraining, kept in the store: made by monitoring or by a person, fulfilled by the next retraining."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bid_assets.common.windows import utc_now
from bid_assets.version_store.store import VersionStore

POINTER = "RETRAINING_REQUESTS"


def request_retraining(store: VersionStore, name: str, reason: str) -> None:
    """Request a retraining because of `reason`. A request of the same name is replaced."""
    store.move_pointer(POINTER, {**_read(store), name: {"reason": reason, "raised_at": utc_now().isoformat()}})


def withdraw_request(store: VersionStore, name: str) -> None:
    """Withdraw a request; nothing happens if there is none of that name."""
    requests = _read(store)
    if requests.pop(name, None) is not None:
        store.move_pointer(POINTER, requests)


def pending_requests(store: VersionStore) -> Mapping[str, tuple[str, datetime]]:
    """Name -> (reason, time of the request)."""
    try:
        return {name: (each["reason"], datetime.fromisoformat(each["raised_at"])) for name, each in _read(store).items()}
    except (KeyError, TypeError, ValueError) as error:
        store.warn_of_damage(POINTER, f"it holds no retraining requests: {error!r}")
        return {}


def is_well_formed(value: Mapping[str, Any]) -> bool:
    """Whether a pointer with this value holds requests."""
    return all(isinstance(each, Mapping) and {"reason", "raised_at"} <= each.keys() for each in value.values())


def _read(store: VersionStore) -> dict[str, Any]:
    return store.read_pointer(POINTER) or {}
