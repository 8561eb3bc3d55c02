from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import NamedTuple
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bid_assets.common.windows import TimeRange
from bid_assets.features import interval_counts
from bid_assets.features.families.profile_history import FAMILY, WINDOW_DAYS
from bid_assets_tests.features.tables import START, at, bids_table, outcomes_table

DAY = 24
# few moments, many of them exactly 7, 30 or 90 days apart
moments = st.builds(lambda day, window: DAY * (day + window), st.integers(0, 9), st.sampled_from([0, *WINDOW_DAYS]))


class World(NamedTuple):
    bids: list[tuple[str, str, float]]
    outcomes: list[tuple[str, str, bool, float]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Few profiles, a coarse grid of times: ties, corrections that flip back, missing and late outcomes are all common.

    Some outcomes come before their bid, and some are of no bid at all: the reader refuses both, but the definition has an
    answer. Ids of outcomes do not follow time.
    """
    made = draw(st.lists(st.tuples(st.sampled_from("pqr"), moments), min_size=1, max_size=16))
    bids = [(f"b{index:02}", profile, moment) for index, (profile, moment) in enumerate(made)]
    told = st.lists(st.tuples(st.booleans(), moments.map(lambda delay: delay - 2 * DAY), st.integers(0, 9)), max_size=3)
    outcomes = [
        (f"o{digit}-{index}-{number}", bid[0], success, max(0, bid[2] + delay))
        for index, bid in enumerate([*bids, ("nobody's", "", 0)])
        for number, (success, delay, digit) in enumerate(draw(told))
    ]
    return World(bids, outcomes)


EVERYTHING = TimeRange(START, at(200 * DAY))


def history(world: World, span: TimeRange = EVERYTHING) -> list[dict[str, object]]:
    tables = {"raw_bids": bids_table(world.bids), "raw_bid_outcomes": outcomes_table(world.outcomes)}
    rows: list[dict[str, object]] = FAMILY.compute_table(tables, span, None).to_pylist()
    return rows


def by_definition(world: World, bid: tuple[str, str, float]) -> dict[str, object]:
    """The features of one bid, read off the definition word by word."""
    identifier, profile, t = bid
    row: dict[str, object] = {"bid_id": identifier, "submitted_at": at(t)}

    def in_force(other: str) -> tuple[float, str, bool] | None:
        known = [(when, name, success) for name, of, success, when in world.outcomes if of == other and when < t]
        return max(known, default=None)

    for w in WINDOW_DAYS:
        seen = [b for b in world.bids if b[1] == profile and t - w * 24 <= b[2] < t]
        outcomes = [outcome for b in seen if (outcome := in_force(b[0])) is not None]
        successes = [outcome for outcome in outcomes if outcome[2]]
        row[f"bids_{w}d"], row[f"known_outcomes_{w}d"], row[f"successes_{w}d"] = len(seen), len(outcomes), len(successes)
        row[f"failures_{w}d"] = len(outcomes) - len(successes)
        row[f"success_rate_{w}d"] = len(successes) / len(outcomes) if outcomes else None
        row["days_since_last_success"] = (t - max(successes)[0]) / 24 if successes else None
        row["open_bids"] = len(seen) - len(outcomes)
    return row


@settings(max_examples=300)
@given(worlds())
def test_every_cell_is_what_the_definition_says(world: World) -> None:
    expected = [by_definition(world, bid) for bid in sorted(world.bids, key=lambda bid: (bid[2], bid[0]))]
    assert history(world) == expected
    with mock.patch.object(interval_counts, "FEW_ROWS", 0):  # as of many bids
        assert history(world) == expected


@pytest.mark.parametrize("seed", range(3))
def test_long_records_are_what_the_definition_says(seed: int) -> None:
    chance = random.Random(seed)
    bids = [(f"b{index:03}", chance.choice("ppppq"), chance.randrange(24 * 200)) for index in range(250)]
    outcomes = [
        (f"o{chance.random()}", name, chance.random() < 0.3, hour + chance.randrange(24 * 60))
        for name, _, hour in bids
        for _ in range(chance.choice([0, 1, 1, 1, 2]))
    ]
    world = World(bids, outcomes)
    assert history(world) == [by_definition(world, bid) for bid in sorted(bids, key=lambda bid: (bid[2], bid[0]))]


@given(worlds(), moments, st.data())
def test_no_outcome_from_t_on_changes_a_feature_of_a_bid_submitted_by_t(world: World, t: int, data: st.DataObject) -> None:
    past = [outcome for outcome in world.outcomes if outcome[3] < t]
    told = st.tuples(st.sampled_from(world.bids), st.booleans(), moments)
    later = [(f"n{n}", bid[0], won, t + wait) for n, (bid, won, wait) in enumerate(data.draw(st.lists(told, max_size=20)))]
    until = TimeRange(START, at(t) + timedelta(microseconds=1))
    assert history(World(world.bids, past + later), until) == history(world, until)


@given(worlds(), moments)
def test_a_range_is_the_same_as_its_parts(world: World, moment: int) -> None:
    parts = history(world, TimeRange(START, at(moment))) + history(world, TimeRange(at(moment), EVERYTHING.end))
    assert parts == history(world)


@given(worlds(), st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(world: World, seed: int) -> None:
    shuffled = World(list(world.bids), list(world.outcomes))
    random.Random(seed).shuffle(shuffled.bids)
    random.Random(seed + 1).shuffle(shuffled.outcomes)
    assert history(shuffled) == history(world)


@given(worlds(), moments)
def test_rows_older_than_the_look_back_do_not_matter(world: World, moment: int) -> None:
    span = TimeRange(at(moment), EVERYTHING.end)
    oldest = moment - FAMILY.lookback_days * DAY
    recent = World([b for b in world.bids if b[2] >= oldest], [o for o in world.outcomes if o[3] >= oldest])
    assert history(recent, span) == history(world, span)


def test_the_look_back_reaches_a_bid_exactly_ninety_days_old() -> None:
    world = World([("b0", "p", 0), ("b1", "p", 90 * DAY)], [])
    kept = [bid for bid in world.bids if bid[2] >= 90 * DAY - FAMILY.lookback_days * DAY]
    assert [row["bids_90d"] for row in history(World(kept, []), TimeRange(at(90 * DAY), EVERYTHING.end))] == [1]


def test_a_bid_exactly_seven_days_old_counts_and_an_outcome_of_this_very_moment_does_not() -> None:
    world = World([("b0", "p", 0), ("b1", "p", 7 * 24)], [("o0", "b0", True, 7 * 24)])
    [_, second] = history(world)
    assert (second["bids_7d"], second["known_outcomes_7d"], second["open_bids"]) == (1, 0, 1)


def test_a_correction_counts_from_the_moment_when_it_is_known() -> None:
    world = World([("b0", "p", 0), ("b1", "p", 48), ("b2", "p", 96)], [("o0", "b0", True, 24), ("o1", "b0", False, 72)])
    assert [row["successes_7d"] for row in history(world)] == [0, 1, 0]
    assert [row["known_outcomes_7d"] for row in history(world)] == [0, 1, 1]


def test_of_two_outcomes_known_at_one_moment_the_larger_id_counts() -> None:
    tied = [("o9", "b0", True, 24.0), ("o10", "b0", False, 24.0)]
    [_, row] = history(World([("b0", "p", 0), ("b1", "p", 48)], tied))
    assert (row["known_outcomes_7d"], row["successes_7d"], row["days_since_last_success"]) == (1, 1, 1.0)


def test_a_success_counts_as_long_as_its_bid_is_in_the_window_however_late_it_was_known() -> None:
    world = World([("b0", "p", 0), ("b1", "p", 90 * 24), ("b2", "p", 90 * 24 + 1)], [("o0", "b0", True, 89 * 24)])
    assert [row["days_since_last_success"] for row in history(world)] == [None, 1.0, None]


def test_without_any_row_there_is_a_table_with_the_declared_columns() -> None:
    tables = {"raw_bids": bids_table([]), "raw_bid_outcomes": outcomes_table([])}
    empty = FAMILY.compute_table(tables, TimeRange(START, at(1)), None)
    assert empty.num_rows == 0
    assert empty.schema == FAMILY.schema


@pytest.mark.parametrize("moment", [at(0), at(24)])
def test_the_span_is_half_open(moment: datetime) -> None:
    tables = {"raw_bids": bids_table([("b0", "p", 0), ("b1", "p", 24)]), "raw_bid_outcomes": outcomes_table([])}
    found: pa.Table = FAMILY.compute_table(tables, TimeRange(moment, moment + timedelta(hours=24)), None)
    assert found["submitted_at"].to_pylist() == [moment]
