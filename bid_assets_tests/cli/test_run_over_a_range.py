"""`bid-assets run --from --to` makes features of the windows asked for; of those before them it reads what is looked back at,
no more.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bid_assets.common.windows import Cadence, utc_now
from bid_assets.orchestration.refresh.planning import featured_windows, read_windows
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.app_db.database import bid, insert, outcome, standard_tables
from bid_assets_tests.conftest import settings_for
from bid_assets_tests.platforms import call

WEEK = timedelta(weeks=1)
OPEN = Cadence.WEEKLY.floor(utc_now())


@pytest.mark.slow
def test_windows_that_are_only_looked_back_at_need_no_features(
    new_database: Callable[[], str], tmp_path: Path, static_encoder: Path
) -> None:
    app_db = new_database()
    with settings_for(tmp_path, app_db, new_database(), LOOKBACK_WINDOWS=2) as settings:
        settings.home.mkdir()
        (settings.home / "encoders").symlink_to(static_encoder.parent)
        url = standard_tables(app_db)
        times = [OPEN - number * WEEK for number in range(1, 140)]
        insert(url, "bids", [bid(f"b{number}", time) for number, time in enumerate(times)])
        insert(url, "bid_outcomes", [outcome(f"o{number}", f"b{number}", time) for number, time in enumerate(times)])
        keys = [Cadence.WEEKLY.key(time) for time in times]
        result = call("run", "--from", keys[2], "--to", keys[0])
        store = VersionStore(settings.resolved_store_url)
        assert featured_windows(store) == set(keys[:3]), result.output
        assert read_windows(store) == set(keys[: 3 + 13])
