"""The assets of feature families over ranges of windows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.orchestration.assets import features
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.in_process_runs import materialize
from bid_assets.orchestration.instance import open_instance
from bid_assets_tests.platforms import EMBEDDINGS, FAMILIES, Platform, small_platform

pytestmark = pytest.mark.slow


@pytest.fixture
def platform(postgres: EmbeddedServer, static_encoder: Path, tmp_path: Path) -> Iterator[Platform]:
    with small_platform(postgres, tmp_path, static_encoder) as small:
        yield small


def test_features_computed_window_by_window_are_those_of_the_whole_range(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, assets = platform.first_run["windows"], [*FAMILIES, *EMBEDDINGS]
    hashes = {(asset, key): platform.head(asset, key).content_hash for asset in assets for key in windows}
    monkeypatch.setattr(features, "ROWS_AT_ONCE", 1)
    with open_instance() as instance:
        assert materialize(build_defs(platform.settings, platform.store), instance, assets, windows).succeeded
    assert {(asset, key): platform.head(asset, key).content_hash for asset in assets for key in windows} == hashes
