"""Which runs bring raw tables and features up to date. Pure: changes and what the store lacks in, few runs over ranges out.

`planning.py` asks the store and calls `plan_stage`; the command, the sensors and the schedules all go through it. A plan is one
stage: after its runs the store is asked again, so that what is made again follows from what has been read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.features.family import FeatureFamily
from bid_assets.orchestration.partitions import windows_for_days

MAX_RUNS = 4
"""However scattered the changes, so few runs: the ranges that lie nearest to each other are joined."""


@dataclass(frozen=True)
class Refresh:
    """One run over a range of windows: these feature families, and the raw tables first if `reads_raw`."""

    first: str
    last: str
    families: frozenset[str]
    reads_raw: bool = True

    def covers(self, other: Refresh) -> bool:
        """Whether this run does all that the other one would."""
        return (
            self.first <= other.first
            and self.last >= other.last
            and self.families >= other.families
            and self.reads_raw >= other.reads_raw
        )

    def keys(self, cadence: Cadence) -> list[str]:
        """The windows of the run, oldest first."""
        return cadence.keys(TimeRange(cadence.window(self.first).start, cadence.window(self.last).end))


def plan_stage(
    changed: Mapping[str, Iterable[str]],
    present: Iterable[str],
    families: Iterable[FeatureFamily],
    cadence: Cadence,
    *,
    required: Iterable[str] = (),
    stale: Mapping[str, Iterable[str]] | None = None,
    start: str = "",
) -> list[Refresh]:
    """The next runs; none where everything is up to date.

    `changed`: table of the application -> windows whose rows differ from what was read. `present`: windows whose raw tables
    have been read. `required`: windows that need features, even if empty. `stale`: family -> windows whose features are
    absent or made from other raw versions than those of now. No window before `start` is ever asked for.

    A run that reads a window reads all its raw tables, so all families are computed there. In the windows that look back at
    it, those are made again that turn out to be stale: that is known once it has been read, in the next stage. Where
    raw windows are missing that features look back at, these are read first, and nothing else is done in this stage.
    """
    families = tuple(families)
    windows_changed = windows_of_changes(changed)
    stale = {name: set(keys) for name, keys in (stale or {}).items()}
    reach = max((windows_for_days(cadence, family.lookback_days) for family in families), default=1)
    needed, read = windows_changed.union(required, *stale.values()), set(present)
    names = frozenset(family.name for family in families)
    reads = _merged((Refresh(key, key, names) for key in windows_changed), cadence)
    unread = with_lookback(needed, reach, cadence, start) - read - windows_changed
    if unread or (len(reads) > 1 and not windows_changed <= read):
        return _merged((Refresh(key, key, frozenset()) for key in unread | windows_changed), cadence)
    if reads:
        return reads
    features = (Refresh(key, key, frozenset([name]), reads_raw=False) for name, keys in stale.items() for key in keys)
    return _merged(features, cadence)


def windows_of_changes(changed: Mapping[str, Iterable[str]]) -> set[str]:
    """The windows in which any table has changed."""
    return {key for keys in changed.values() for key in keys}


def with_lookback(keys: Iterable[str], count: int, cadence: Cadence, start: str = "") -> set[str]:
    """`keys` and, for each, the windows before it, `count` with its own; none before `start`."""
    windows: set[str] = set()
    for key in keys:
        windows.update(_offset_key(key, -back, cadence) for back in range(count))
    return {key for key in windows if key >= start}


def _offset_key(key: str, count: int, cadence: Cadence) -> str:
    return cadence.key(cadence.window(key).start + count * cadence.length)


def _merged(single: Iterable[Refresh], cadence: Cadence) -> list[Refresh]:
    """Ranges that overlap or touch as one, with the families of all of them; at most `MAX_RUNS`."""
    runs: list[Refresh] = []
    for each in sorted(single, key=lambda item: item.first):
        if runs and each.first <= _offset_key(runs[-1].last, 1, cadence):
            runs[-1] = _union(runs[-1], each)
        else:
            runs.append(each)
    return _merge_to_limit(runs, MAX_RUNS)


def _merge_to_limit(runs: list[Refresh], limit: int) -> list[Refresh]:
    """At most `limit` runs; the neighbours with the smallest gap are joined first."""
    while len(runs) > limit:
        gaps = [(_days(left.last, right.first), index) for index, (left, right) in enumerate(zip(runs, runs[1:], strict=False))]
        _, index = min(gaps)
        runs = [*runs[:index], _union(runs[index], runs[index + 1]), *runs[index + 2 :]]
    return runs


def _days(one: str, other: str) -> int:
    return (Cadence.DAILY.window(other).start - Cadence.DAILY.window(one).start).days


def _union(one: Refresh, other: Refresh) -> Refresh:
    return Refresh(
        min(one.first, other.first),
        max(one.last, other.last),
        one.families | other.families,
        one.reads_raw or other.reads_raw,
    )
