"""The one planner: what `bid-assets run`, the sensors and the schedules do next to bring raw tables and features up to date.

Here the store is asked what it has; `run_ranges.plan_stage` decides, purely. The invariant that repeated stages reach: no
window's features name a raw version that is no longer HEAD, and every window that a dataset looks back over has raw tables and
features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bid_assets.common.windows import TimeRange, utc_now
from bid_assets.features.registry import families
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.first_window import with_first_window
from bid_assets.orchestration.lookback import dataset_lookback
from bid_assets.orchestration.partitions import windows_for_days
from bid_assets.orchestration.refresh.run_ranges import Refresh, plan_stage, windows_of_changes, with_lookback
from bid_assets.orchestration.refresh.staleness import stale_windows
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore


def plan_refreshes(
    settings: Settings,
    store: VersionStore,
    changed: Mapping[str, Iterable[str]],
    *,
    check: Iterable[str] = (),
    required: Iterable[str] | None = None,
) -> list[Refresh]:
    """The next stage of runs after `changed` (table of the application -> windows); none where all is up to date.

    No window before the first one is in it. `check`: windows whose features are compared with the raw versions of now.
    `required`: windows that must have features, whatever they hold; None: those that a dataset of the newest window looks
    back over.
    """
    settings = with_first_window(settings, store)
    if required is None:
        required = dataset_windows(settings, store, windows_of_changes(changed))
    return plan_stage(
        changed,
        read_windows(store),
        families(),
        settings.cadence,
        required=required,
        stale=stale_features(settings, store, check, required),
        start=settings.cadence.key(settings.first_moment),
    )


def read_windows(store: VersionStore) -> set[str]:
    """The windows of which all raw tables have been read."""
    return set.intersection(*(set(store.partitions(asset)) for asset in RAW_ASSETS))


def featured_windows(store: VersionStore) -> set[str]:
    """The windows that have features of any family."""
    return set().union(*(store.partitions(family.name) for family in families()))


def dataset_windows(settings: Settings, store: VersionStore, changed: Iterable[str] = ()) -> set[str]:
    """The windows that a dataset of the newest window with rows looks back over, its own included."""
    newest = newest_window(store)
    ends = [*changed, *([newest] if newest else [])]
    return lookback_windows(settings, store, max(ends)) if ends else set()


def lookback_windows(settings: Settings, store: VersionStore, key: str) -> set[str]:
    """The windows that a dataset of the window `key` looks back over, its own included."""
    count = dataset_lookback(settings, store, key)
    return with_lookback([key], count, settings.cadence, settings.cadence.key(settings.first_moment))


def newest_window(store: VersionStore) -> str | None:
    """The newest window that holds any bid or outcome; None where nothing has been read yet."""
    for key in reversed(store.partitions("raw_bids")):
        heads = [store.head(asset, key) for asset in ("raw_bids", "raw_bid_outcomes")]
        if any(head is not None and head.rows for head in heads):
            return key
    return None


def stale_features(
    settings: Settings, store: VersionStore, check: Iterable[str], required: Iterable[str]
) -> dict[str, list[str]]:
    """Family -> windows whose features are absent or not made from the raw versions, code and settings of now.

    Looked at are the windows of `check` that hold bids or have features already, and all that are `required`.
    """
    required = set(required)
    candidates = sorted(set(check) - required)
    featured = featured_windows(store) if candidates else set()
    bids = store.heads("raw_bids", (key for key in candidates if key not in featured))
    keys = sorted(required.union(key for key in candidates if key in featured or (key in bids and bids[key].rows)))
    return stale_windows(store, settings, families(), keys) if keys else {}


def windows_in_reach(settings: Settings, refreshes: Iterable[Refresh]) -> set[str]:
    """The windows of these runs and those after them that look back at them, up to the open one."""
    cadence = settings.cadence
    reach = max(windows_for_days(cadence, family.lookback_days) for family in families())
    end = cadence.floor(utc_now()) + cadence.length
    windows: set[str] = set()
    for refresh in refreshes:
        start = cadence.window(refresh.first).start
        last = min(cadence.window(refresh.last).end + (reach - 1) * cadence.length, end)
        if start < last:
            windows.update(cadence.keys(TimeRange(start, last)))
    return windows
