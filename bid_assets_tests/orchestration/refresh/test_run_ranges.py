from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.common.windows import MONDAY, Cadence
from bid_assets.features.registry import families
from bid_assets.orchestration.refresh.run_ranges import MAX_RUNS, Refresh, plan_stage, with_lookback

WEEKS = [Cadence.WEEKLY.key(MONDAY + week * Cadence.WEEKLY.length) for week in range(2600, 2700)]
ALL = frozenset(family.name for family in families())
REACH = 14
"""Windows of a week that history looks at, its own included."""


def planned(
    changed: dict[str, list[str]], present: list[str] = WEEKS, stale: dict[str, list[str]] | None = None, **more: Any
) -> list[Refresh]:
    return plan_stage(changed, present, families(), Cadence.WEEKLY, stale=stale, start=WEEKS[0], **more)


def test_nothing_changed_and_nothing_stale_is_nothing_to_do() -> None:
    assert planned({}) == []


@pytest.mark.parametrize("table", ["bids", "bid_outcomes", "jobs", "profiles"])
def test_a_changed_window_is_read_again_with_all_families_since_all_raw_tables_are_read(table: str) -> None:
    assert planned({table: [WEEKS[10]]}) == [Refresh(WEEKS[10], WEEKS[10], ALL)]


def test_stale_features_are_made_again_without_reading_raw_tables() -> None:
    stale = {"word_features": [WEEKS[12]], "profile_features": [WEEKS[13]]}
    assert planned({}, stale=stale) == [Refresh(WEEKS[12], WEEKS[13], frozenset(stale), reads_raw=False)]


def test_rows_are_read_before_stale_features_are_made_again_since_they_may_make_more_stale() -> None:
    assert planned({"jobs": [WEEKS[10]]}, stale={"word_features": [WEEKS[12]]}) == [Refresh(WEEKS[10], WEEKS[10], ALL)]


def test_changed_windows_near_each_other_are_one_run() -> None:
    [refresh] = planned({"bid_outcomes": [WEEKS[i] for i in (-4, -3, -2, -1)]})
    assert (refresh.first, refresh.last) == (WEEKS[-4], WEEKS[-1])


def test_an_empty_store_reads_the_look_back_of_what_changed_first() -> None:
    assert planned({"bids": [WEEKS[30]]}, present=[]) == [Refresh(WEEKS[30 - REACH + 1], WEEKS[30], frozenset())]


def test_a_new_window_behind_known_ones_is_one_run_with_all_families() -> None:
    assert planned({"bids": [WEEKS[30]]}, present=WEEKS[:30]) == [Refresh(WEEKS[30], WEEKS[30], ALL)]


def test_of_several_runs_over_new_windows_none_computes_features_before_the_others_have_read() -> None:
    runs = planned({"bids": [WEEKS[30], WEEKS[40]]}, present=[key for key in WEEKS if key not in (WEEKS[30], WEEKS[40])])
    assert runs == [Refresh(key, key, frozenset()) for key in (WEEKS[30], WEEKS[40])]


def test_no_window_before_the_start_is_asked_for() -> None:
    assert planned({"bids": [WEEKS[3]]}, present=[]) == [Refresh(WEEKS[0], WEEKS[3], frozenset())]


def test_a_window_that_a_dataset_looks_back_at_and_nobody_has_read_is_read_first() -> None:
    present = [key for key in WEEKS if key != WEEKS[60]]
    assert planned({}, present=present, required=WEEKS[58:64]) == [Refresh(WEEKS[60], WEEKS[60], frozenset())]


some_windows = st.lists(st.sampled_from(WEEKS), max_size=30)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("bids", "bid_outcomes", "jobs", "profiles"), some_windows)))
def test_every_changed_window_is_in_exactly_one_of_few_runs_with_all_families(changed: dict[str, list[str]]) -> None:
    runs = planned(changed)
    assert len(runs) <= MAX_RUNS
    for key in {key for keys in changed.values() for key in keys}:
        [run] = [run for run in runs if run.first <= key <= run.last]
        assert run.families == ALL


@given(some_windows)
def test_runs_do_not_overlap(keys: list[str]) -> None:
    runs = planned({"bid_outcomes": keys})
    assert all(left.last < right.first for left, right in zip(runs, runs[1:], strict=False))


@given(some_windows, st.sets(st.sampled_from(WEEKS)))
def test_features_are_never_computed_over_raw_windows_that_nobody_has_read(keys: list[str], present: set[str]) -> None:
    for run in planned({"bids": keys}, present=sorted(present)):
        if run.families:
            sight = with_lookback(run.keys(Cadence.WEEKLY), REACH, Cadence.WEEKLY, WEEKS[0])
            assert sight <= present.union(run.keys(Cadence.WEEKLY) if run.reads_raw else ())
