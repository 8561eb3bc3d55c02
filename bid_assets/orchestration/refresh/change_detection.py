"""What has changed in the application's database, as windows by table: by following new rows, and by comparing every window.

The queries are in `app_db/new_rows.py` and `app_db/fingerprints.py`; what the store has seen is in the raw versions' manifests.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bid_assets.app_db.connections import snapshot
from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.fingerprints import changed, window_fingerprints
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.new_rows import Cursor, look, missing_indexes
from bid_assets.app_db.sql import Queries
from bid_assets.app_db.time_extent import left_out, oldest_valid_bid, rows_outside
from bid_assets.common.windows import utc_now
from bid_assets.orchestration.assets.raw_tables import CODE_VERSION, FINGERPRINTS, RAW_ASSETS
from bid_assets.orchestration.first_window import learn_first_window, oldest_known_window, windows_with_data
from bid_assets.orchestration.refresh.staleness import damaged_windows
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

Touched = dict[str, set[str]]
"""Table of the application -> windows whose rows changed."""


@dataclass(frozen=True)
class Noticed:
    """Windows that changed, the cursor to go on from, and what a person should know."""

    touched: Touched
    cursor: str
    remarks: tuple[str, ...] = ()


def follow(settings: Settings, store: VersionStore, cursor: str | None) -> Noticed:
    """New rows since `cursor`; without one, everything that the store has not seen."""
    overlap = timedelta(minutes=settings.noticing_overlap_minutes)
    with _snapshot(settings) as asking:
        known = Cursor.from_json(cursor) if cursor else None
        arrivals = look(asking, known, settings.cadence, overlap, utc_now())
        settings = _with_first_window(settings, store, asking)
        if known is not None:
            usable = _usable(settings, arrivals.touched)
            remarks = _left_out(settings, store, asking) if usable != arrivals.touched else ()
            return Noticed(usable, arrivals.cursor.to_json(), remarks)
        advice = [
            f"{statement} would let new rows be noticed without reading whole tables" for statement in missing_indexes(asking)
        ]
        present = window_fingerprints(asking, settings.cadence, windows_with_data(settings))
        remarks = _left_out(settings, store, asking)
    touched = _usable(settings, differences(recorded_fingerprints(store), present))
    return Noticed(touched, arrivals.cursor.to_json(), (*remarks, *advice))


def reconcile(settings: Settings, store: VersionStore, following: str | None) -> Noticed:
    """Every window whose rows are not those that the store has read.

    Left out is what `follow` is about to see from where it stands, at its cursor `following`.
    """
    recorded = recorded_fingerprints(store)
    with _snapshot(settings) as asking:
        settings = _with_first_window(settings, store, asking)
        present = window_fingerprints(asking, settings.cadence, windows_with_data(settings))
        remarks = _left_out(settings, store, asking)
    coming = follow(settings, store, following).touched if following else {}
    changes = _usable(settings, differences(recorded, present))
    unseen = {table: keys - coming.get(table, set()) for table, keys in changes.items()}
    return Noticed({table: keys for table, keys in unseen.items() if keys}, "", remarks)


def recorded_fingerprints(store: VersionStore) -> dict[str, dict[str, Any]]:
    """Window -> table -> the fingerprint of the rows when the window was last read, completely and by the present code.

    `rejected_rows` is written last of all raw tables, and anew whenever a fingerprint is another. The rows of a window with a
    file that is gone or torn count as changed: reading them again restores the file.
    """
    heads = store.heads("rejected_rows", store.partitions("rejected_rows"))
    recorded = {key: head.info.get(FINGERPRINTS, {}) if head.code.asset == CODE_VERSION else {} for key, head in heads.items()}
    return recorded | {key: {"bids": "damaged"} for key in damaged_windows(store, RAW_ASSETS)}


def differences(recorded: Mapping[str, Mapping[str, Any]], present: Mapping[str, Mapping[str, Any]]) -> Touched:
    """Table -> windows whose rows are not those of the record. A window that was never read counts for every table that has rows in it."""
    touched: Touched = {}
    for key in changed(recorded, present):
        before, now = recorded.get(key, {}), present.get(key, {})
        for table in {*before, *now}:
            if changed(
                {key: {table: before[table]} if table in before else {}}, {key: {table: now[table]} if table in now else {}}
            ):
                touched.setdefault(table, set()).add(key)
    return touched


def _with_first_window(settings: Settings, store: VersionStore, asking: Any) -> Settings:
    """The settings with the first window as the database has it now."""
    oldest = oldest_valid_bid(asking, Queries(contract_columns(asking), settings.cadence))
    return learn_first_window(settings, store, oldest)


def _left_out(settings: Settings, store: VersionStore, asking: Any) -> tuple[str, ...]:
    """What lies outside of all windows, in words."""
    cadence, bounds, remarks = settings.cadence, windows_with_data(settings), []
    first, last = cadence.key(bounds.start), cadence.key(utc_now())
    oldest = oldest_known_window(settings, store)
    if settings.start is None and oldest is not None and oldest < bounds.start:
        remarks.append(
            f"older bids have appeared: the first window is now {cadence.key(oldest)}. Windows before {first} are read as soon as "
            "the code location has been loaded again, which `bid-assets up` does by itself (in Dagster's UI: Deployment, Reload)"
        )
    else:
        outside = rows_outside(asking, Queries(contract_columns(asking), cadence), bounds)
        if outside:
            remarks.append(left_out(outside, first, last, start_is_set=settings.start is not None))
    return tuple(remarks)


def _usable(settings: Settings, touched: Mapping[str, set[str]]) -> Touched:
    """The windows that are ours: from the oldest with data to the open one."""
    first, last = settings.cadence.key(settings.oldest_window), settings.cadence.key(utc_now())
    usable = {table: {key for key in keys if first <= key <= last} for table, keys in touched.items()}
    return {table: keys for table, keys in usable.items() if keys}


def _snapshot(settings: Settings) -> AbstractContextManager[Any]:
    """A cursor over a connection of this tick's own: one that is kept may have died of age."""
    return snapshot(app_db_url(settings), silence=settings.db_silence_seconds)
