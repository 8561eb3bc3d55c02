from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.modelling.dataset.label_maturity import (
    DEFAULT_MATURITY,
    MAX_SHARE_OF_SPAN,
    MIN_OUTCOMES,
    UNDECIDED,
    age_decided,
    resolve_maturity,
)
from bid_assets.modelling.dataset.splits import LabelRules
from bid_assets_tests.features.tables import bids_table, outcomes_table

AUTO = LabelRules(maturity=None)

bids_seen = st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0, 1, UNDECIDED])), min_size=1, max_size=60)
shares = st.sampled_from([0.1, 0.5, 0.8, 0.9, 1.0])


def columns(seen: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([age for age, _ in seen], dtype=np.int64), np.array([kind for _, kind in seen], dtype=np.int8)


def plain_quantiles(age: np.ndarray, kind: np.ndarray, share: float) -> dict[int, int]:
    decided = np.unique(kind[kind != UNDECIDED])
    return {int(number): int(np.quantile(age[kind == number], share, method="inverted_cdf")) for number in decided}


@given(bids_seen, shares)
def test_where_all_are_decided_it_is_the_plain_quantile_of_each_kind(seen: list[tuple[int, int]], share: float) -> None:
    age, kind = columns([(age, max(kind, 0)) for age, kind in seen])
    assert age_decided(age, kind, share) == plain_quantiles(age, kind, share)


@given(bids_seen, shares)
def test_undecided_bids_never_make_it_look_quicker(seen: list[tuple[int, int]], share: float) -> None:
    age, kind = columns(seen)
    found, plain = age_decided(age, kind, share), plain_quantiles(age, kind, share)
    assert found.keys() == plain.keys()
    assert all(found[number] >= plain[number] for number in found)


def market(bids: int, days: int, seed: int, failures_median: float = 20.0) -> tuple[pa.Table, pa.Table]:
    """Bids of so many days and what is known of them at the end: successes take some days, failures longer, some for ever."""
    random = np.random.default_rng(seed)
    submitted = np.sort(random.random(bids)) * days * 24
    success, never = random.random(bids) < 0.6, random.random(bids) < 0.1
    median = np.where(success, 4.0, failures_median)
    known = submitted + 24 * median * np.exp(0.6 * random.standard_normal(bids))
    seen = np.flatnonzero(~never & (known < days * 24))
    rows = [(f"o{n}", f"b{n}", bool(success[n]), float(known[n])) for n in seen]
    return bids_table([(f"b{n}", "p", float(hour)) for n, hour in enumerate(submitted)]), outcomes_table(rows)


@pytest.mark.parametrize("seed", range(3))
def test_the_slower_kinds_delay_is_found_though_most_that_is_seen_of_it_is_quick(seed: int) -> None:
    truth = 20 * np.exp(0.6 * 1.2816)
    found = resolve_maturity(AUTO, *market(3000, 180, seed))
    assert found.known_maturity / timedelta(days=1) == pytest.approx(truth, rel=0.2)
    assert found.maturity_origin == "estimated from the delays"
    assert found.known_maturity == resolve_maturity(AUTO, *market(3000, 180, seed)).known_maturity


def test_a_maturity_that_is_set_stays() -> None:
    rules = LabelRules(maturity=timedelta(days=3))
    assert resolve_maturity(rules, *market(100, 100, 0)) is rules


def test_failures_that_take_long_leave_three_quarters_of_the_time_to_mature_bids_and_it_says_so() -> None:
    found = resolve_maturity(AUTO, *market(3000, 180, 0, failures_median=60))
    assert timedelta(days=44) <= found.known_maturity <= 180 * MAX_SHARE_OF_SPAN * timedelta(days=1)
    assert "cut to 25% of the time that the bids span" in found.maturity_origin


def test_few_outcomes_of_a_kind_teach_nothing_and_the_stated_number_holds() -> None:
    bids, outcomes = market(MIN_OUTCOMES, 90, 0)
    found = resolve_maturity(AUTO, bids, outcomes)
    assert found.known_maturity == DEFAULT_MATURITY
    assert "fewer than 30 outcomes of either class" in found.maturity_origin


def test_no_outcome_at_all_is_no_error() -> None:
    bids, outcomes = market(10, 90, 0)
    assert resolve_maturity(AUTO, bids, outcomes.slice(0, 0)).known_maturity == DEFAULT_MATURITY
    assert resolve_maturity(AUTO, bids.slice(0, 0), outcomes).known_maturity == DEFAULT_MATURITY


def test_what_counts_as_failed_at_an_age_is_mature_at_that_age() -> None:
    rules = LabelRules(maturity=None, impute_failure_after=timedelta(days=10))
    assert resolve_maturity(rules, *market(3000, 180, 0)).known_maturity == timedelta(days=10)


def test_rules_that_are_not_resolved_have_no_maturity() -> None:
    with pytest.raises(ValueError, match="still to be estimated"):
        _ = AUTO.known_maturity
