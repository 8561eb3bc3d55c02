from __future__ import annotations

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.modelling.dataset.splits import NO_MATURITY, LabelRules, split_by_time

DAY = 86_400_000_000

histories = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=40).map(sorted)


@given(histories, st.sampled_from([0.1, 0.2, 0.5, 0.8]), st.integers(0, 5), st.booleans())
def test_who_learns_was_decided_before_the_holdout_begins_and_who_evaluates_is_mature(
    history: list[tuple[int, int]], share: float, maturity: int, mature_only: bool
) -> None:
    submitted, delay = np.array(history, dtype=np.int64).reshape(-1, 2).T
    submitted, known = submitted * DAY, (submitted + delay) * DAY
    rules = LabelRules(timedelta(days=maturity), mature_only)
    split = split_by_time(submitted, known, holdout=share, rules=rules)
    held, young = split == "holdout", split == "immature"
    old = submitted <= known.max(initial=0) - maturity * DAY
    assert (young == (~old)).all()
    assert held.sum() >= min(old.sum(), max(1, round(share * old.sum())))
    if held.any():
        begin = submitted[held].min()
        learns = split == "train"
        assert (submitted[~held & ~young] < begin).all(), "equal times straddle the boundary"
        assert (known[learns] < begin).all()
        was_mature = submitted < begin - maturity * DAY
        assert not mature_only or was_mature[split == "train"].all()


def test_without_a_holdout_everything_known_is_train() -> None:
    submitted = np.array([1, 2, 3])
    split = split_by_time(submitted, submitted + 9, holdout=0.0, rules=NO_MATURITY)
    assert set(split) == {"train"}


def test_where_no_bid_is_mature_nothing_learns_or_evaluates() -> None:
    submitted = np.array([DAY, 2 * DAY])
    rules = LabelRules(timedelta(days=30))
    split = split_by_time(submitted, submitted + 1, holdout=0.2, rules=rules)
    assert set(split) == {"immature"}
