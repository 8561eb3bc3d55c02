from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation

from bid_assets.orchestration.code_location import follow_first_window
from bid_assets.orchestration.first_window import update_first_window
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.app_db.database import bid, insert, standard_tables
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.loops import eventually

NEWER, OLDER = datetime(2026, 3, 2, tzinfo=UTC), datetime(2025, 10, 6, tzinfo=UTC)


def test_a_code_server_loads_its_code_again_when_older_bids_have_moved_the_first_window(
    settings: Settings, dagster_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert settings.app_db_url is not None
    insert(standard_tables(settings.app_db_url), "bids", [bid("b1", NEWER)])
    store, socket, reports = VersionStore(settings.resolved_store_url), tmp_path / "code", []
    look = follow_first_window(settings, store, socket, lambda *words: reports.append(" ".join(words)))
    command = [str(Path(sys.executable).with_name("dagster")), "code-server", "start", "-m", "bid_assets.definitions"]
    server = subprocess.Popen([*command, "--socket", str(socket), "--location-name", "bid_assets"], cwd=CHECKOUT)
    try:
        eventually(socket.exists, what="the code server listens")
        assert first_partition(dagster_instance, socket) == "2026-03-02"
        look()
        assert not reports
        update_first_window(settings, store, OLDER)
        look()
        assert reports == ["code server has loaded its code again: the first window is now 2025-10-06"]
        assert eventually(lambda: first_partition(dagster_instance, socket) == "2025-10-06", what="the code is loaded again")
    finally:
        server.terminate()
        server.wait(30)


def first_partition(instance: dg.DagsterInstance, socket: Path) -> str | None:
    """As daemon and web server see it."""
    origin = GrpcServerCodeLocationOrigin(host="localhost", socket=str(socket), location_name="bid_assets")
    with closing_location(GrpcServerCodeLocation(origin=origin, instance=instance)) as location:
        [repository] = location.get_repositories().values()
        [node] = [each for each in repository.get_asset_node_snaps() if each.asset_key == dg.AssetKey("raw_bids")]
        assert node.partitions is not None
        return node.partitions.get_partitions_definition().get_first_partition_key()


def closing_location(location: GrpcServerCodeLocation) -> Any:
    location.close = location.cleanup  # type: ignore[attr-defined]
    return closing(location)  # type: ignore[type-var]
