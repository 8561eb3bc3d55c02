"""Which assets to make again for which windows, after rows have changed. Pure: changes in, few runs over ranges out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bid_assets.features.base import FeatureFamily
from bid_assets.partitions import windows_for_days
from bid_assets.windows import Cadence, TimeRange

MAX_RUNS = 4
"""However scattered the changes, so few runs: the ranges that lie nearest to each other are joined."""


@dataclass(frozen=True)
class Refresh:
    """One run over a range of windows: raw tables always, and these feature families."""

    first: str
    last: str
    families: frozenset[str]

    def covers(self, other: Refresh) -> bool:
        """Whether this run does all that the other one would."""
        return self.first <= other.first and self.last >= other.last and self.families >= other.families


def plan(
    touched: Mapping[str, Iterable[str]], present: Iterable[str], families: Iterable[FeatureFamily], cadence: Cadence
) -> list[Refresh]:
    """The runs after changes in `touched`: table of the application -> windows whose rows changed.

    `present` are the windows that the store has. Windows between the newest of them and a newer touched one are made as
    well, since a look-back must have no holes. A window's features are made again where a table that they read changed in
    the window or in the look-back of its family; no further than to the newest window.
    """
    families = tuple(families)
    changed = {table: set(keys) for table, keys in touched.items()}
    known = set(present)
    windows = set().union(*changed.values()) if changed else set()
    if not windows:
        return []
    new = {key for key in _with_holes(windows, known, cadence) if key not in known}
    newest = max(windows | known)
    wanted = [Refresh(key, key, frozenset(family.name for family in families)) for key in new]
    for table, keys in changed.items():
        for key in keys:
            wanted.append(Refresh(key, key, frozenset()))
            for family in families:
                if f"raw_{table}" in family.reads:
                    reach = windows_for_days(cadence, family.lookback_days)
                    wanted.append(Refresh(key, min(newest, _later(key, reach - 1, cadence)), frozenset([family.name])))
    return _few(_joined(wanted, cadence), MAX_RUNS)


def _with_holes(windows: set[str], known: set[str], cadence: Cadence) -> set[str]:
    """`windows`, and those between them and the nearest known ones that nobody has made yet."""
    ends = {min(windows), max(windows)} | ({max(known), min(known)} if known else set())
    return set(cadence.keys(TimeRange(cadence.window(min(ends)).start, cadence.window(max(ends)).end)))


def _later(key: str, count: int, cadence: Cadence) -> str:
    return cadence.key(cadence.window(key).start + count * cadence.length)


def _joined(wanted: Iterable[Refresh], cadence: Cadence) -> list[Refresh]:
    """Ranges that overlap or touch as one, with the families of all of them."""
    joined: list[Refresh] = []
    for each in sorted(wanted, key=lambda item: item.first):
        if joined and each.first <= _later(joined[-1].last, 1, cadence):
            joined[-1] = _both(joined[-1], each)
        else:
            joined.append(each)
    return joined


def _few(runs: list[Refresh], limit: int) -> list[Refresh]:
    """At most `limit` runs; the neighbours with the smallest gap are joined first."""
    while len(runs) > limit:
        gaps = [(_days(left.last, right.first), index) for index, (left, right) in enumerate(zip(runs, runs[1:], strict=False))]
        _, index = min(gaps)
        runs = [*runs[:index], _both(runs[index], runs[index + 1]), *runs[index + 2 :]]
    return runs


def _days(one: str, other: str) -> int:
    return (Cadence.DAILY.window(other).start - Cadence.DAILY.window(one).start).days


def _both(one: Refresh, other: Refresh) -> Refresh:
    return Refresh(min(one.first, other.first), max(one.last, other.last), one.families | other.families)
