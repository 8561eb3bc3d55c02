"""What has changed in the application's database, as windows by table: by following new rows, and by comparing every window.

The queries are in `app_db/arrivals.py` and `app_db/fingerprints.py`; what the store has seen is in the raw versions' manifests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import sqlalchemy

from bid_assets.app_db.arrivals import Cursor, look, missing_indexes
from bid_assets.app_db.database import app_db_url, engine
from bid_assets.app_db.fingerprints import changed, window_fingerprints
from bid_assets.assets.raw import FINGERPRINTS, RAW_ASSETS
from bid_assets.settings import Settings
from bid_assets.versions.hashing import json_hash
from bid_assets.versions.store import VersionStore
from bid_assets.windows import TimeRange, utc_now

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
    with _connection(settings) as connection:
        known = Cursor.from_json(cursor) if cursor else None
        arrivals = look(connection, known, settings.cadence, overlap, utc_now())
        if known is not None:
            return _usable(settings, arrivals.touched, arrivals.cursor.to_json())
        advice = [
            f"{statement} would let new rows be noticed without reading whole tables"
            for statement in missing_indexes(connection)
        ]
        present = window_fingerprints(connection.cursor(), settings.cadence, all_windows(settings))
    found = _usable(settings, _differences(recorded_fingerprints(store), present), arrivals.cursor.to_json())
    return Noticed(found.touched, found.cursor, (*found.remarks, *advice))


def reconcile(settings: Settings, store: VersionStore, cursor: str | None, following: str | None) -> Noticed:
    """Every window whose rows are not those that the store has read. The cursor remembers what was asked for.

    Left out is what `follow` is about to see from where it stands, at its cursor `following`. Rows may differ in ways that
    make no difference to the versions (JSON that is spaced otherwise): such a window is asked for once.
    """
    import orjson

    asked: dict[str, str] = orjson.loads(cursor) if cursor else {}
    recorded = recorded_fingerprints(store)
    with _connection(settings) as connection:
        present = window_fingerprints(connection.cursor(), settings.cadence, all_windows(settings))
    coming = follow(settings, store, following).touched if following else {}
    differences = {table: keys - coming.get(table, set()) for table, keys in _differences(recorded, present).items()}
    digests = {key: json_hash(present.get(key, {})) for keys in differences.values() for key in keys}
    fresh = {table: {key for key in keys if asked.get(key) != digests[key]} for table, keys in differences.items()}
    return _usable(settings, {table: keys for table, keys in fresh.items() if keys}, orjson.dumps(digests).decode())


def all_windows(settings: Settings) -> TimeRange:
    """From the first window to the end of the open one."""
    return TimeRange(settings.first_moment, settings.cadence.floor(utc_now()) + settings.cadence.length)


def recorded_fingerprints(store: VersionStore) -> dict[str, dict[str, Any]]:
    """Window -> table -> the fingerprint of the rows when the window was last read into a new version."""
    newest: dict[str, Any] = {}
    for asset in RAW_ASSETS:
        for key, head in store.heads(asset, store.partitions(asset)).items():
            if key not in newest or head.created_at > newest[key].created_at:
                newest[key] = head
    return {key: head.info.get(FINGERPRINTS, {}) for key, head in newest.items()}


def _differences(recorded: Mapping[str, Mapping[str, Any]], present: Mapping[str, Mapping[str, Any]]) -> Touched:
    """Table -> windows. A window that was never read counts for every table that has rows in it."""
    touched: Touched = {}
    for key in changed(recorded, present):
        before, now = recorded.get(key, {}), present.get(key, {})
        for table in {*before, *now}:
            if changed(
                {key: {table: before[table]} if table in before else {}}, {key: {table: now[table]} if table in now else {}}
            ):
                touched.setdefault(table, set()).add(key)
    return touched


def _usable(settings: Settings, touched: Mapping[str, set[str]], cursor: str) -> Noticed:
    """Leave out the windows that are none of ours, and say so."""
    first, last = settings.cadence.key(settings.first_moment), settings.cadence.key(utc_now())
    outside = {key for keys in touched.values() for key in keys if not first <= key <= last}
    usable = {table: keys - outside for table, keys in touched.items() if keys - outside}
    remark = f"{len(outside)} changed window(s) lie before {first} (BID_ASSETS_START) or in the future: {', '.join(sorted(outside)[:5])}"
    return Noticed(usable, cursor, (remark,) if outside else ())


@contextmanager
def _connection(settings: Settings) -> Iterator[Any]:
    """A psycopg2 connection that is kept for the next tick; a broken one is replaced."""
    pool = _pool(app_db_url(settings))
    with pool.connect() as connection:
        yield connection.connection.dbapi_connection


@cache
def _pool(url: str) -> sqlalchemy.Engine:
    return engine(url).execution_options(isolation_level="AUTOCOMMIT")
