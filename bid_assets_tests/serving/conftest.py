"""A small platform for each module; modules with needs of their own make another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets_tests.platforms import Platform, small_platform


@pytest.fixture(scope="module")
def platform(
    postgres: EmbeddedServer, static_encoder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Platform]:
    with small_platform(postgres, tmp_path_factory.mktemp(request.module.__name__), static_encoder) as made:
        yield made
