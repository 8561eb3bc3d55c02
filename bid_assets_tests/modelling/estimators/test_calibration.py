from __future__ import annotations

import numpy as np
import pytest

from bid_assets.modelling.estimators.calibration import IDENTITY, Calibration, fit_calibration, select_calibration
from bid_assets.modelling.estimators.linear_logit import expit
from bid_assets.modelling.evaluation.metrics import probability_metrics


def overconfident(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are twice too large and too high by one, and what happened."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    return 2 * truth + 1, rng.random(rows) < expit(truth)


def error(calibration: Calibration) -> float:
    log_odds, success = overconfident(20_000, seed=1)
    found = probability_metrics(success, calibration.probability(log_odds))["calibration_error"]
    assert found is not None
    return found


def test_by_default_nothing_is_corrected() -> None:
    assert select_calibration("none", [overconfident(1500), overconfident(1500, seed=2)]) is IDENTITY


def test_a_sigmoid_undoes_the_distortion_where_later_blocks_have_it_too() -> None:
    found = select_calibration("sigmoid", [overconfident(700), overconfident(700, seed=2), overconfident(700, seed=3)])
    assert found.method == "sigmoid"
    assert found.slope == pytest.approx(0.5, abs=0.1)
    assert found.intercept == pytest.approx(-0.5, abs=0.2)
    assert error(found) < 0.03 < error(IDENTITY)


def test_an_isotonic_calibration_is_a_rising_line() -> None:
    found = select_calibration("isotonic", [overconfident(2000), overconfident(2000, seed=2)])
    assert found.method == "isotonic"
    levels = found.probability(np.linspace(-30, 30, 500))
    assert (np.diff(levels) >= 0).all()
    assert 0 < levels[0] < levels[-1] < 1
    assert error(found) < 0.03


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_what_would_have_lost_on_later_blocks_is_not_taken(kind: str) -> None:
    """The first block is distorted, the later ones are not."""
    log_odds, success = overconfident(1500, seed=4)
    right = ((log_odds - 1) / 2, success)
    assert select_calibration(kind, [overconfident(1500), right, right]) is IDENTITY


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_one_block_cannot_tell_and_takes_none(kind: str) -> None:
    assert select_calibration(kind, [overconfident(1500)]) is IDENTITY


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_scores_that_mean_the_opposite_are_left_as_they_are(kind: str) -> None:
    log_odds, success = overconfident(1500)
    assert fit_calibration(kind, [(-log_odds, success)]) is IDENTITY
    assert fit_calibration(kind, [(log_odds, np.ones_like(success))]) is IDENTITY
