from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bid_assets.automation.refreshing import MAX_RUNS, Refresh, plan
from bid_assets.features.families import families
from bid_assets.windows import MONDAY, Cadence

WEEKS = [Cadence.WEEKLY.key(MONDAY + week * Cadence.WEEKLY.length) for week in range(2600, 2700)]
ALL = frozenset(family.name for family in families())
HISTORY = frozenset(["profile_historical_features", "client_historical_features"])
HISTORY_REACH = 14


def planned(touched: dict[str, list[str]], present: list[str] = WEEKS) -> list[Refresh]:
    return plan(touched, present, families(), Cadence.WEEKLY)


def test_nothing_touched_is_nothing_to_do() -> None:
    assert planned({}) == []


def test_an_outcome_in_the_newest_window_refreshes_that_window_and_history_alone() -> None:
    assert planned({"bid_outcomes": [WEEKS[-1]]}) == [Refresh(WEEKS[-1], WEEKS[-1], HISTORY)]


def test_a_back_dated_outcome_refreshes_history_as_far_as_it_looks_back() -> None:
    assert planned({"bid_outcomes": [WEEKS[10]]}) == [Refresh(WEEKS[10], WEEKS[10 + HISTORY_REACH - 1], HISTORY)]


def test_an_edited_profile_refreshes_only_the_features_that_read_profiles() -> None:
    [refresh] = planned({"profiles": [WEEKS[10]]})
    assert refresh == Refresh(WEEKS[10], WEEKS[10], frozenset(["profile_features"]))


def test_outcomes_in_several_windows_near_each_other_are_one_run() -> None:
    [refresh] = planned({"bid_outcomes": [WEEKS[i] for i in (-10, -7, -3, -1)]})
    assert (refresh.first, refresh.last, refresh.families) == (WEEKS[-10], WEEKS[-1], HISTORY)


def test_windows_between_the_newest_one_and_a_new_one_are_made_with_all_features() -> None:
    [refresh] = planned({"bid_outcomes": [WEEKS[12]]}, present=WEEKS[:10])
    assert refresh == Refresh(WEEKS[10], WEEKS[12], ALL)


def test_a_store_without_any_window_gets_all_that_were_touched() -> None:
    assert planned({"bids": [WEEKS[3]], "bid_outcomes": [WEEKS[6]]}, present=[]) == [Refresh(WEEKS[3], WEEKS[6], ALL)]


some_windows = st.lists(st.sampled_from(WEEKS), max_size=30)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("bids", "bid_outcomes", "jobs", "profiles"), some_windows)))
def test_every_touched_window_is_in_exactly_one_of_few_runs_with_the_families_that_read_it(
    touched: dict[str, list[str]],
) -> None:
    runs = planned(touched)
    assert len(runs) <= MAX_RUNS
    for table, keys in touched.items():
        for key in keys:
            [run] = [run for run in runs if run.first <= key <= run.last]
            assert {family.name for family in families() if f"raw_{table}" in family.reads} <= run.families


@given(some_windows)
def test_runs_do_not_overlap(keys: list[str]) -> None:
    runs = planned({"bid_outcomes": keys})
    assert all(left.last < right.first for left, right in zip(runs, runs[1:], strict=False))
