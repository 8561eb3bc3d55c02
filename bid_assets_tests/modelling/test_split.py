from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.modelling.split import AS_DECIDED, LabelRules, Shares, calibrating, split_by_time

DAY = 86_400_000_000

histories = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.booleans()), max_size=40).map(sorted)


def columns(history: list[tuple[int, int, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    submitted = np.array([time for time, _, _ in history], dtype=np.int64) * DAY
    known = submitted + np.array([delay for _, delay, _ in history], dtype=np.int64) * DAY
    return submitted, known, np.array([calibrates for _, _, calibrates in history], dtype=bool)


def nobody(rows: int) -> np.ndarray:
    return np.zeros(rows, dtype=bool)


@given(histories, st.sampled_from([0.1, 0.2, 0.5, 0.8]), st.integers(0, 5), st.booleans())
def test_who_learns_was_decided_before_the_holdout_begins_and_who_judges_is_mature(
    history: list[tuple[int, int, bool]], share: float, maturity: int, mature_only: bool
) -> None:
    submitted, known, calibrates = columns(history)
    rules = LabelRules(timedelta(days=maturity), mature_only)
    split = split_by_time(submitted, known, calibrates, Shares(share, 0.1), rules)
    held, young = split == "holdout", split == "immature"
    old = submitted <= known.max(initial=0) - maturity * DAY
    assert (young == (~old)).all()
    assert held.sum() >= min(old.sum(), max(1, round(share * old.sum())))
    if held.any():
        begin = submitted[held].min()
        learns = np.isin(split, ("train", "calibration"))
        assert (submitted[~held & ~young] < begin).all(), "equal times straddle the boundary"
        assert (known[learns] < begin).all()
        assert not (calibrates & (split == "train")).any()
        assert not (~calibrates & (split == "calibration")).any()
        was_mature = submitted < begin - maturity * DAY
        assert was_mature[split == "calibration"].all()
        assert not mature_only or was_mature[split == "train"].all()


def test_without_a_holdout_and_without_calibration_everything_known_is_train() -> None:
    submitted = np.array([1, 2, 3])
    assert set(split_by_time(submitted, submitted + 9, nobody(3), Shares(0.0), AS_DECIDED)) == {"train"}


def test_where_no_bid_is_mature_nothing_learns_or_judges() -> None:
    submitted = np.array([DAY, 2 * DAY])
    rules = LabelRules(timedelta(days=30))
    split = split_by_time(submitted, submitted + 1, nobody(2), Shares(0.2), rules)
    assert set(split) == {"immature"}


def test_about_the_share_of_the_profiles_calibrates_and_each_with_all_of_its_rows() -> None:
    names = [f"profile-{number}" for number in range(2000)]
    chosen = calibrating(pa.array(names * 2), 0.1)
    assert chosen[:2000].mean() == pytest.approx(0.1, abs=0.03)
    assert (chosen[:2000] == chosen[2000:]).all()
    assert (calibrating(pa.array(names[::-1]), 0.1)[::-1] == chosen[:2000]).all()


def test_no_share_means_nobody() -> None:
    assert not calibrating(pa.array(["a", "b"]), 0.0).any()
