"""What a store says of itself, in the file STORE at its root: values that all of its versions share, such as the cadence.

The file is written with the first version and is the truth from then on; settings that contradict it are refused. A store of
an earlier release has no such file: its cadence is inferred from its windows. Here are only reading, writing and comparing;
what a value means for the windows is in `windows.py` and `partitions.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bid_assets.common.windows import Cadence
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

METADATA = "STORE"
CADENCE = "cadence"


class CadenceError(ValueError):
    """The settings have another cadence than the store."""


def open_store(settings: Settings, kind: type[VersionStore] = VersionStore) -> VersionStore:
    """The store of these settings. Raises `CadenceError` where its windows have another cadence."""
    store = kind(settings.resolved_store_url)
    check_cadence(store, settings.cadence)
    return store


def read_metadata(store: VersionStore) -> dict[str, Any]:
    """All values that the store has about itself; empty where nothing has been written yet, or the file is damaged."""
    return store.read_pointer(METADATA) or {}


def update_metadata(store: VersionStore, **values: Any) -> dict[str, Any]:
    """Set some values, keep the others, atomically; returns all of them. Values are JSON."""
    merged = {**read_metadata(store), **values}
    store.move_pointer(METADATA, merged)
    return merged


def check_cadence(store: VersionStore, cadence: Cadence) -> None:
    """Raise `CadenceError` if the windows of the store have another cadence; an empty store takes any. Writes nothing."""
    stored = _stored_cadence(store, cadence)
    if stored is not None and stored is not cadence:
        raise CadenceError(
            f"the store {store.url} has {stored.value} windows, but the setting BID_ASSETS_CADENCE is {cadence.value}: set it "
            f"to {stored.value}, or start a home of its own for {cadence.value} windows with BID_ASSETS_HOME=DIR"
        )


def remember_cadence(store: VersionStore, cadence: Cadence) -> None:
    """Note the cadence of the store before its first version is written. Raises `CadenceError` where it has another."""
    check_cadence(store, cadence)
    if read_metadata(store).get(CADENCE) != cadence.value:
        update_metadata(store, cadence=cadence.value)


def inferred_cadence(partitions: Iterable[str]) -> Cadence | None:
    """The cadence of windows with these keys; None where they do not tell it (none, or a single Monday).

    Daily windows start on Mondays one time in seven, weekly ones always: the more frequent kind decides, so that a few windows
    made with a wrong setting do not outvote the others.
    """
    keys = set(partitions)
    mondays = sum(_starts_a_week(key) for key in keys)
    if mondays * 2 < len(keys):
        return Cadence.DAILY
    return Cadence.WEEKLY if mondays > 1 else None


def _stored_cadence(store: VersionStore, otherwise: Cadence) -> Cadence | None:
    """The cadence in the store's metadata, or else of its windows; None for an empty store."""
    value = read_metadata(store).get(CADENCE)
    if value in list(Cadence):
        return Cadence(value)
    keys = store.partitions("raw_bids")
    return (inferred_cadence(keys) or otherwise) if keys else None


def _starts_a_week(key: str) -> bool:
    try:
        return bool(Cadence.WEEKLY.window(key))
    except ValueError:
        return False
