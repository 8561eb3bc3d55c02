"""Change detection: which windows of which tables have changed, by polling new rows, and by comparing every window.

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
from bid_assets.app_db.fingerprints import changed_windows, window_fingerprints
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.new_rows import HighWaterMark, missing_indexes, poll_new_rows
from bid_assets.app_db.queries import Queries
from bid_assets.app_db.time_extent import describe_rows_outside, oldest_valid_bid, rows_outside
from bid_assets.common.windows import utc_now
from bid_assets.orchestration.assets.raw_tables import CODE_VERSION, FINGERPRINTS, RAW_ASSETS
from bid_assets.orchestration.first_window import oldest_window, span_of_windows, update_first_window
from bid_assets.orchestration.refresh.staleness import damaged_windows
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

ChangedWindows = dict[str, set[str]]
"""Table of the application -> windows whose rows changed."""


@dataclass(frozen=True)
class DetectedChanges:
    """The windows that changed, the cursor of the next poll, and warnings for a person."""

    windows: ChangedWindows
    cursor: str
    warnings: tuple[str, ...] = ()


def detect_new_rows(settings: Settings, store: VersionStore, cursor: str | None) -> DetectedChanges:
    """The windows with rows that are new since `cursor`; without one, all windows that the store has not read as they are."""
    overlap = timedelta(minutes=settings.new_row_overlap_minutes)
    with _snapshot(settings) as db_cursor:
        mark = HighWaterMark.from_json(cursor) if cursor else None
        new_rows = poll_new_rows(db_cursor, mark, settings.cadence, overlap, utc_now())
        settings = _with_first_window(settings, store, db_cursor)
        if mark is not None:
            existing = _existing_windows(settings, new_rows.changed_windows)
            warnings = _rows_outside_warnings(settings, store, db_cursor) if existing != new_rows.changed_windows else ()
            return DetectedChanges(existing, new_rows.high_water_mark.to_json(), warnings)
        advice = [
            f"{statement} would let new rows be found without reading whole tables" for statement in missing_indexes(db_cursor)
        ]
        present = window_fingerprints(db_cursor, settings.cadence, span_of_windows(settings))
        warnings = _rows_outside_warnings(settings, store, db_cursor)
    changes = _existing_windows(settings, compare_fingerprints(recorded_fingerprints(store), present))
    return DetectedChanges(changes, new_rows.high_water_mark.to_json(), (*warnings, *advice))


def reconcile(settings: Settings, store: VersionStore, polling_cursor: str | None) -> DetectedChanges:
    """Compare all windows: those whose rows are not the ones that the store has read.

    Without those that `detect_new_rows` is about to report from its own cursor, `polling_cursor`.
    """
    recorded = recorded_fingerprints(store)
    with _snapshot(settings) as db_cursor:
        settings = _with_first_window(settings, store, db_cursor)
        present = window_fingerprints(db_cursor, settings.cadence, span_of_windows(settings))
        warnings = _rows_outside_warnings(settings, store, db_cursor)
    polled = detect_new_rows(settings, store, polling_cursor).windows if polling_cursor else {}
    changes = _existing_windows(settings, compare_fingerprints(recorded, present))
    unpolled = {table: keys - polled.get(table, set()) for table, keys in changes.items()}
    return DetectedChanges({table: keys for table, keys in unpolled.items() if keys}, "", warnings)


def recorded_fingerprints(store: VersionStore) -> dict[str, dict[str, Any]]:
    """Window -> table -> the fingerprint of the rows when the window was last read, completely and by the present code.

    `rejected_rows` is written last of all raw tables, and anew whenever a fingerprint is another. The rows of a window with a
    file that is gone or torn count as changed: reading them again restores the file.
    """
    heads = store.heads("rejected_rows", store.partitions("rejected_rows"))
    recorded = {key: head.info.get(FINGERPRINTS, {}) if head.code.asset == CODE_VERSION else {} for key, head in heads.items()}
    return recorded | {key: {"bids": "damaged"} for key in damaged_windows(store, RAW_ASSETS)}


def compare_fingerprints(recorded: Mapping[str, Mapping[str, Any]], present: Mapping[str, Mapping[str, Any]]) -> ChangedWindows:
    """Table -> windows whose rows are not those of the record.

    A window that was never read counts for every table that has rows in it.
    """
    changes: ChangedWindows = {}
    for key in changed_windows(recorded, present):
        before, now = recorded.get(key, {}), present.get(key, {})
        for table in {*before, *now}:
            if changed_windows(
                {key: {table: before[table]} if table in before else {}}, {key: {table: now[table]} if table in now else {}}
            ):
                changes.setdefault(table, set()).add(key)
    return changes


def _with_first_window(settings: Settings, store: VersionStore, db_cursor: Any) -> Settings:
    """The settings with the first window as the database has it now."""
    oldest = oldest_valid_bid(db_cursor, Queries(contract_columns(db_cursor), settings.cadence))
    return update_first_window(settings, store, oldest)


def _rows_outside_warnings(settings: Settings, store: VersionStore, db_cursor: Any) -> tuple[str, ...]:
    """Warnings about rows that lie outside of all windows."""
    cadence, bounds, warnings = settings.cadence, span_of_windows(settings), []
    first, last = cadence.key(bounds.start), cadence.key(utc_now())
    oldest = oldest_window(settings, store)
    if settings.start is None and oldest is not None and oldest < bounds.start:
        warnings.append(
            f"older bids have appeared: the first window is now {cadence.key(oldest)}. Windows before {first} are read as soon "
            f"as the code location has been loaded again, which `bid-assets up` does by itself (in Dagster's UI: Deployment, "
            "Reload)"
        )
    else:
        outside = rows_outside(db_cursor, Queries(contract_columns(db_cursor), cadence), bounds)
        if outside:
            warnings.append(describe_rows_outside(outside, first, last, start_is_set=settings.start is not None))
    return tuple(warnings)


def _existing_windows(settings: Settings, changes: Mapping[str, set[str]]) -> ChangedWindows:
    """The windows that are ours: from the oldest with data to the open one."""
    first, last = settings.cadence.key(settings.oldest_window), settings.cadence.key(utc_now())
    existing = {table: {key for key in keys if first <= key <= last} for table, keys in changes.items()}
    return {table: keys for table, keys in existing.items() if keys}


def _snapshot(settings: Settings) -> AbstractContextManager[Any]:
    """A cursor over a connection of this tick's own: one that is kept may have died of age."""
    return snapshot(app_db_url(settings), silence=settings.db_silence_seconds)
