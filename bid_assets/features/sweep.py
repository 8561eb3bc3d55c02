"""The compiled inner loop of the profile history. Imports numba, so it is imported only when history is computed."""

from __future__ import annotations

import numpy as np
from numba import njit

NEVER = np.iinfo(np.int64).max


@njit(cache=True)
def sweep(
    profile: np.ndarray,
    profiles: int,
    submitted: np.ndarray,
    event_bid: np.ndarray,
    event_time: np.ndarray,
    event_success: np.ndarray,
    windows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and time since the last success for every bid, in one pass over bids and outcomes of each profile.

    `profile`: code of each bid's profile, below `profiles`. `submitted`: int64 microseconds, ascending. Events are the
    outcomes in ascending order of time: row of the bid, time, success; a later event of a bid replaces the earlier one.
    `windows`: int64 microseconds, ascending. Returns int32 counts of shape (bids, 3, windows): bids, known outcomes,
    successes; and int64 microseconds since the last success, -1 where there is none, within the longest window.
    """
    n, wide = len(submitted), len(windows)
    bid_order, bid_start = _by_group(profile, profiles)
    event_order, event_start = _by_group(profile[event_bid], profiles)
    counts = np.zeros((n, 3, wide), np.int32)
    since = np.full(n, -1, np.int64)
    first_known = np.full(n, NEVER, np.int64)  # when a bid's first outcome became known, once it has
    won_at = np.full(n, NEVER, np.int64)  # time of the outcome in force, where that is a success
    position = np.empty(n, np.int64)
    for place in range(n):
        position[bid_order[place]] = place
    wins = np.empty(len(event_order), np.int64)  # events that were successes, latest on top; stale ones go when they surface
    for group in range(profiles):
        top, low = 0, np.full(wide, bid_start[group], np.int64)
        high, event = bid_start[group], event_start[group]
        known, won = np.zeros(wide, np.int32), np.zeros(wide, np.int32)
        for place in range(bid_start[group], bid_start[group + 1]):
            row = bid_order[place]
            now = submitted[row]
            while submitted[bid_order[high]] < now:
                high += 1
            while event < event_start[group + 1] and event_time[event_order[event]] < now:
                index = event_order[event]
                bid = event_bid[index]
                fresh = first_known[bid] == NEVER
                change = np.int32(event_success[index]) - np.int32(won_at[bid] != NEVER)
                for w in range(wide):
                    if position[bid] >= low[w]:
                        known[w] += fresh
                        won[w] += change
                first_known[bid] = min(first_known[bid], event_time[index])
                won_at[bid] = event_time[index] if event_success[index] else NEVER
                if event_success[index]:
                    wins[top] = index
                    top += 1
                event += 1
            for w in range(wide):
                while submitted[bid_order[low[w]]] < now - windows[w]:
                    gone = bid_order[low[w]]
                    known[w] -= first_known[gone] != NEVER
                    won[w] -= won_at[gone] != NEVER
                    low[w] += 1
                counts[row, 0, w] = high - low[w]
                counts[row, 1, w] = known[w]
                counts[row, 2, w] = won[w]
            while top > 0:
                index = wins[top - 1]
                bid = event_bid[index]
                if won_at[bid] == event_time[index] and position[bid] >= low[wide - 1]:
                    since[row] = now - event_time[index]
                    break
                top -= 1
    return counts, since


@njit(cache=True)
def _by_group(group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """A stable counting sort: the rows in order of their group, and where each group starts."""
    start = np.zeros(groups + 1, np.int64)
    for row in range(len(group)):
        start[group[row] + 1] += 1
    for index in range(groups):
        start[index + 1] += start[index]
    filled = start[:-1].copy()
    order = np.empty(len(group), np.int64)
    for row in range(len(group)):
        order[filled[group[row]]] = row
        filled[group[row]] += 1
    return order, start
