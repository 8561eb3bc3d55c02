from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.modelling.estimators.blend import (
    BLOCKS,
    ComponentLogOdds,
    Weights,
    blend_weights,
    forward_blocks,
    recency_weights,
)
from bid_assets.modelling.estimators.linear_logit import expit

MOST = Weights(0.7, 2.0)
histories = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30), st.booleans()), min_size=30, max_size=80).map(sorted)


@given(histories, st.sampled_from([0.1, 0.3, 0.6]))
def test_property_blocks_follow_each_other_to_the_newest_row_and_nothing_fitted_knows_of_their_time(
    history: list[tuple[int, int, bool]], share: float
) -> None:
    submitted = np.array([time for time, _, _ in history], dtype=np.int64)
    known = submitted + np.array([delay for _, delay, _ in history])
    success = np.array([label for _, _, label in history])
    blocks = forward_blocks(submitted, known, success, share, 3)
    assert len(blocks) <= BLOCKS
    rows = [block.validation for block in blocks]
    if blocks:
        np.testing.assert_array_equal(np.concatenate(rows), np.arange(rows[0][0], len(history)))
    for block in blocks:
        assert block.begin == submitted[block.validation].min()
        assert (submitted[block.train] < block.begin).all()
        assert len(block.validation) >= round(len(history) * share / BLOCKS)
        assert len(np.unique(success[block.train])) == 2
        purged = (submitted < block.begin) & (known < block.begin)
        enough = min(success[purged].sum(), (~success[purged]).sum()) >= 3
        assert not enough or (known[block.train] < block.begin).all()


def test_a_long_history_gives_three_blocks() -> None:
    submitted = np.arange(1000, dtype=np.int64)
    blocks = forward_blocks(submitted, submitted, submitted % 2 == 0, 0.45, 10)
    assert [len(block.validation) for block in blocks] == [150, 150, 150]


def test_bids_of_one_moment_are_never_parted() -> None:
    """Where all of a round is submitted at once, a block is a whole round, however large."""
    submitted = np.repeat(np.arange(5, dtype=np.int64), 200)
    blocks = forward_blocks(submitted, submitted, np.arange(1000) % 2 == 0, 0.45, 10)
    assert [set(submitted[block.validation].tolist()) for block in blocks] == [{2}, {3}, {4}]


def test_a_block_grows_until_it_holds_enough_of_the_rarer_class() -> None:
    """What was decided soon is nearly all success: the newest part alone would hold no failure."""
    submitted = np.arange(100, dtype=np.int64)
    success = np.ones(100, dtype=bool)
    success[[5, 10, 15, 20, 25, 60, 65, 70]] = False
    block = forward_blocks(submitted, submitted, success, 0.45, 2)[-1]
    assert block.validation[0] == 65
    assert len(block.train) == 65


def test_a_block_takes_no_more_than_half_for_the_sake_of_a_class() -> None:
    success = np.ones(100, dtype=bool)
    success[:12] = False
    rows = np.arange(100, dtype=np.int64)
    assert forward_blocks(rows, rows, success, 0.45, 2)[-1].validation.size == 50


def test_rows_in_any_order_make_the_same_blocks() -> None:
    submitted, shuffled = np.arange(500, dtype=np.int64), np.random.default_rng(0).permutation(500)
    in_order, mixed = (forward_blocks(rows, rows + 20, rows % 3 == 0, 0.45, 10) for rows in (submitted, shuffled))
    for one, other in zip(in_order, mixed, strict=True):
        np.testing.assert_array_equal(one.validation, shuffled[other.validation])
        np.testing.assert_array_equal(one.train, np.sort(shuffled[other.train]))


def test_without_both_classes_in_an_older_part_there_is_no_block() -> None:
    rows = np.arange(100, dtype=np.int64)
    assert not forward_blocks(rows, rows, rows >= 80, 0.45, 10)


def components(trees: float, history: float, text: float, rows: int = 400, seed: int = 0) -> ComponentLogOdds:
    """A block in which each component is so many times the true log-odds."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 2, rows)
    return ComponentLogOdds(trees * truth, history * truth, text * truth, rng.random(rows) < expit(truth))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (components(1, 0, 0, 20_000), Weights(0.0, 0.0)),
        (components(0, 1, 0, 20_000), Weights(0.7, 0.0)),
    ],
)
def test_the_weight_goes_to_the_component_that_tells_the_classes_apart(block: ComponentLogOdds, expected: Weights) -> None:
    assert blend_weights([block], MOST) == pytest.approx(expected, abs=0.05)


def test_no_weight_goes_to_the_history_where_trees_and_text_decide() -> None:
    """Trees tell one half of the truth and the text the other; the history tells of neither."""
    trees, history, text = np.random.default_rng(4).normal(0, 1.5, (3, 20_000))
    success = np.random.default_rng(5).random(20_000) < expit(trees + text)
    found = blend_weights([ComponentLogOdds(trees, history, text, success)], MOST)
    assert found == pytest.approx(Weights(0.0, 1.0), abs=0.05)


def test_no_weight_goes_to_what_makes_one_block_clearly_worse() -> None:
    """The two newer blocks are for the texts, and have the larger part of the mean; the oldest is clearly against them."""
    blocks = [components(1, 1, -1, seed=3), components(0.3, 0.3, 1, seed=1), components(0.3, 0.3, 1, seed=2)]
    unshrunk = blend_weights(blocks[1:], MOST)
    assert unshrunk.text > 0.5
    assert blocks[0].is_worse_than_trees(unshrunk)
    found = blend_weights(blocks, MOST)
    assert not any(block.is_worse_than_trees(found) for block in blocks)
    assert found.text < 0.2


def test_newer_blocks_count_more_and_no_block_decides_alone() -> None:
    counts = recency_weights(3)
    assert counts.sum() == pytest.approx(1)
    assert counts[0] < counts[1] < counts[2] < 0.75
    older, newer = components(0.5, 0.5, 0.2, 5000, seed=1), components(0.5, 0.5, 0.8, 5000, seed=2)
    [low], [high], [both] = ([blend_weights(blocks, MOST).text] for blocks in ([newer], [older], [older, newer]))
    assert min(low, high) < both < max(low, high)


def test_where_no_weight_is_allowed_the_trees_have_all() -> None:
    assert blend_weights([components(0, 1, 1)], Weights()) == Weights(0.0, 0.0)
