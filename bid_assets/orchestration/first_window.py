"""The first window: as the setting `start` fixes it, else the window of the oldest valid bid, kept in the store.

Every process asks here. What is stored moves back when older bids appear, and never forward. Definitions are built for
the first window of their moment and know none before it: when it moves back, the code location has to be loaded again.
"""

from __future__ import annotations

from datetime import UTC, datetime

from bid_assets.common.windows import TimeRange, utc_now
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import read_metadata, update_metadata

OLDEST_WINDOW = "oldest_window"
"""Key of the store's metadata."""


def with_first_window(settings: Settings, store: VersionStore) -> Settings:
    """The settings, with what the store knows of the oldest window that holds data."""
    oldest = oldest_window(settings, store)
    return settings if oldest is None else settings.with_oldest_window(oldest)


def update_first_window(settings: Settings, store: VersionStore, oldest_bid: datetime | None) -> Settings:
    """The same, after `oldest_bid`, the time of the oldest valid bid, has been kept where it is older than all before."""
    stored = oldest_window(settings, store)
    if oldest_bid is not None and (stored is None or oldest_bid < stored):
        update_metadata(store, **{OLDEST_WINDOW: settings.cadence.key(oldest_bid)})
    return with_first_window(settings, store)


def oldest_window(settings: Settings, store: VersionStore) -> datetime | None:
    """The oldest window as stored; where none is stored or the record is damaged, the oldest that was read. None: neither."""
    try:
        stored = read_metadata(store).get(OLDEST_WINDOW)
        if stored is not None:
            return _window(settings, stored)
    except (ValueError, TypeError):
        pass  # stored again by the next poll of the database
    read = store.partitions("raw_bids")
    return _window(settings, read[0]) if read else None


def span_of_windows(settings: Settings) -> TimeRange:
    """From the oldest window that holds data, and not before the first one, to the end of the open one."""
    return TimeRange(settings.oldest_window, settings.cadence.floor(utc_now()) + settings.cadence.length)


def _window(settings: Settings, day: str) -> datetime:
    return settings.cadence.floor(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC))
