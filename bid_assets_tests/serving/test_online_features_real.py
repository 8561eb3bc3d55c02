"""Online equals offline on real bids too: a sample of gsoc_pulls, with their texts, gaps and late outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.serving.online_features import OnlineFeatures
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.conftest import fresh_databases, settings_for
from bid_assets_tests.platforms import Platform, call
from bid_assets_tests.serving.replays import all_rows, assert_same, replay_request, stored_features

GSOC = Path(__file__).parents[3] / "shared" / "data" / "gsoc_pulls"
FIRST, LAST = "2021-05-31", "2021-08-16"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_data,
    pytest.mark.skipif(not GSOC.is_dir(), reason="the real data set is not beside this checkout"),
]


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, static_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A summer of real bids, read and turned into features; the windows that its history needs are made as well."""
    folder = tmp_path_factory.mktemp("real")
    with fresh_databases(postgres) as make, settings_for(folder, make(), make(), LOOKBACK_WINDOWS=2) as settings:
        settings.home.mkdir()
        (settings.home / "encoders").symlink_to(static_encoder.parent)
        call("import", str(GSOC))
        call("run", "--from", FIRST, "--to", LAST)
        yield Platform(settings, VersionStore(settings.resolved_store_url), {})


def test_every_bid_of_a_real_week_has_the_features_of_the_store(platform: Platform) -> None:
    bids = all_rows(platform, "raw_bids").sort_by("id")
    bids = bids.filter(pc.greater_equal(bids["submitted_at"], pa.scalar(platform.settings.cadence.window(LAST).start)))
    assert bids.num_rows > 100
    stored = stored_features(platform, bids)
    online = OnlineFeatures(platform.settings)
    try:
        for start in range(0, bids.num_rows, 100):
            part = bids.slice(start, 100)
            assert_same(online.features([replay_request(bid) for bid in part.to_pylist()]).table, stored.slice(start, 100))
    finally:
        online.close()
