from __future__ import annotations

import numpy as np
import pytest

from bid_assets.modelling.calibration import ISOTONIC_FROM, NOT_CALIBRATED, Calibration, fit
from bid_assets.modelling.linear import probability
from bid_assets.modelling.metrics import probability_metrics
from bid_assets.modelling.split import CALIBRATES_FROM


def overconfident(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are twice too large and too high by one, and what happened."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    return 2 * truth + 1, rng.random(rows) < probability(truth)


def error(calibration: Calibration) -> float:
    log_odds, success = overconfident(20_000, seed=1)
    found = probability_metrics(success, calibration.probability(log_odds))["calibration_error"]
    assert found is not None
    return found


def test_few_bids_are_no_ground_for_a_correction() -> None:
    log_odds, success = overconfident(CALIBRATES_FROM)
    assert fit(log_odds, success) is NOT_CALIBRATED
    assert fit(np.empty(0), np.empty(0, dtype=bool)) is NOT_CALIBRATED


def test_some_hundred_bids_give_a_sigmoid_that_undoes_the_distortion() -> None:
    found = fit(*overconfident(1500))
    assert found.kind == "sigmoid"
    assert found.slope == pytest.approx(0.5, abs=0.1)
    assert found.intercept == pytest.approx(-0.5, abs=0.2)
    assert error(found) < 0.03 < error(NOT_CALIBRATED)


def test_thousands_of_bids_give_a_rising_line() -> None:
    found = fit(*overconfident(4 * ISOTONIC_FROM))
    assert found.kind == "isotonic"
    levels = found.probability(np.linspace(-30, 30, 500))
    assert (np.diff(levels) >= 0).all()
    assert 0 < levels[0] < levels[-1] < 1
    assert error(found) < 0.03


def test_scores_that_mean_the_opposite_are_left_as_they_are() -> None:
    log_odds, success = overconfident(1500)
    assert fit(-log_odds, success) is NOT_CALIBRATED
    assert fit(-np.tile(log_odds, 4), np.tile(success, 4)) is NOT_CALIBRATED


def test_the_digest_tells_calibrations_apart() -> None:
    made = [NOT_CALIBRATED, fit(*overconfident(1500)), fit(*overconfident(1500, seed=2)), fit(*overconfident(4000))]
    assert len({each.digest() for each in made}) == len(made)
