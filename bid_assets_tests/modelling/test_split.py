from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.modelling.split import AS_DECIDED, CALIBRATES_FROM, LabelRules, calibrating, split_by_time

DAY = 86_400_000_000

Bid = tuple[int, int, bool, bool]
histories = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.booleans(), st.booleans()), max_size=40).map(sorted)


def columns(history: list[Bid]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """When each was submitted and decided, whether it succeeded, whether its profile calibrates; many of each, that some calibrate."""
    submitted, delay, success, calibrates = np.repeat(np.array(history, dtype=np.int64).reshape(-1, 4).T, 50, axis=1)
    return submitted * DAY, (submitted + delay) * DAY, success.astype(bool), calibrates.astype(bool)


def nobody(rows: int) -> np.ndarray:
    return np.zeros(rows, dtype=bool)


@given(histories, st.sampled_from([0.1, 0.2, 0.5, 0.8]), st.integers(0, 5), st.booleans())
def test_who_learns_was_decided_before_the_holdout_begins_and_who_judges_is_mature(
    history: list[Bid], share: float, maturity: int, mature_only: bool
) -> None:
    submitted, known, success, calibrates = columns(history)
    rules = LabelRules(timedelta(days=maturity), mature_only)
    split = split_by_time(submitted, known, success, calibrates, holdout=share, rules=rules)
    held, young = split == "holdout", split == "immature"
    old = submitted <= known.max(initial=0) - maturity * DAY
    assert (young == (~old)).all()
    assert held.sum() >= min(old.sum(), max(1, round(share * old.sum())))
    if held.any():
        begin = submitted[held].min()
        learns = np.isin(split, ("train", "calibration"))
        assert (submitted[~held & ~young] < begin).all(), "equal times straddle the boundary"
        assert (known[learns] < begin).all()
        assert not ((split == "calibration").any() and (calibrates & (split == "train")).any())
        assert not (~calibrates & (split == "calibration")).any()
        was_mature = submitted < begin - maturity * DAY
        assert was_mature[split == "calibration"].all()
        assert not mature_only or was_mature[split == "train"].all()


def test_without_a_holdout_and_without_calibration_everything_known_is_train() -> None:
    submitted = np.array([1, 2, 3])
    split = split_by_time(submitted, submitted + 9, nobody(3), nobody(3), holdout=0.0, rules=AS_DECIDED)
    assert set(split) == {"train"}


@pytest.mark.parametrize(("failures", "calibrated"), [(CALIBRATES_FROM - 1, 0), (CALIBRATES_FROM, 500)])
def test_profiles_that_are_to_calibrate_train_where_too_few_of_either_class_would(failures: int, calibrated: int) -> None:
    submitted, number = np.arange(1000) * DAY, np.arange(1000)
    calibrates, success = number % 2 == 0, number >= 2 * failures
    split = split_by_time(submitted, submitted, success, calibrates, holdout=0.0, rules=AS_DECIDED)
    assert (split == "calibration").sum() == calibrated
    assert (split == "train").sum() == 1000 - calibrated
    assert (split[~success & calibrates] == ("calibration" if calibrated else "train")).all()


def test_where_no_bid_is_mature_nothing_learns_or_judges() -> None:
    submitted = np.array([DAY, 2 * DAY])
    rules = LabelRules(timedelta(days=30))
    split = split_by_time(submitted, submitted + 1, nobody(2), nobody(2), holdout=0.2, rules=rules)
    assert set(split) == {"immature"}


def test_about_the_share_of_the_profiles_calibrates_and_each_with_all_of_its_rows() -> None:
    names = [f"profile-{number}" for number in range(2000)]
    chosen = calibrating(pa.array(names * 2), 0.1)
    assert chosen[:2000].mean() == pytest.approx(0.1, abs=0.03)
    assert (chosen[:2000] == chosen[2000:]).all()
    assert (calibrating(pa.array(names[::-1]), 0.1)[::-1] == chosen[:2000]).all()


def test_no_share_means_nobody() -> None:
    assert not calibrating(pa.array(["a", "b"]), 0.0).any()
