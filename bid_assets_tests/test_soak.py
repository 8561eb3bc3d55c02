"""The user's road: `bid-assets up` alone over a database with bids, then weeks of a living market with everything that
goes wrong.

No `run` before: the loop has to find out by itself what to read. While the market is played at high speed, rows are edited,
deleted and dated back, and parts are killed and made to hang; in the end nothing may be left undone. A half-year of it is a
benchmark (`benchmarks/soak.py`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bid_assets.deployments.events import active_model
from bid_assets_tests.benchmarks.soak import measure
from bid_assets_tests.loops import Loop, loop_in
from bid_assets_tests.soaking import Disturbance, nothing_left_undone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

WEEKS = 8


@pytest.fixture(scope="module")
def loop(static_encoder: Path) -> Iterator[Loop]:
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o755)
    options = {"LOOKBACK_WINDOWS": 26, "RETRAIN_MIN_INTERVAL_MINUTES": 0.5}  # the lion's share of CPU are retrainings
    with loop_in(folder, static_encoder, weeks_to_play=WEEKS, weeks=10, first_run=False, **options) as platform:
        platform.up()
        yield platform
    shutil.rmtree(folder, ignore_errors=True)


def test_from_an_empty_home_up_alone_gets_a_model_active(loop: Loop) -> None:
    nothing_left_undone(loop)
    assert active_model(loop.store) is not None


def test_after_eight_weeks_of_edits_deletions_late_bids_and_dying_parts_nothing_is_left_undone(loop: Loop) -> None:
    table = measure(loop, WEEKS, days_a_minute=60, disturbances=tuple(Disturbance))
    assert table.row_count == len(Disturbance) + 3
