"""A small platform for tests: a market of eight weeks in a real PostgreSQL, and the main job run over it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
from click.testing import CliRunner, Result

from bid_assets.app_db.embedded import EmbeddedServer
from bid_assets.cli import main
from bid_assets.definitions import build_defs
from bid_assets.instance import open_instance
from bid_assets.runs import RunOutcome, materialise
from bid_assets.settings import Settings
from bid_assets.versions.manifest import Manifest
from bid_assets.versions.store import VersionStore
from bid_assets.versions.tables import WindowedTable
from bid_assets_tests.conftest import fresh_databases, settings_for

WEEKS, LOOKBACK = 8, 6
FAMILIES = ("profile_features", "bid_temporal_features", "profile_historical_features")
EMBEDDINGS = ("job_description_embeddings", "bid_text_embeddings")
RAW = ("raw_bids", "raw_jobs", "raw_profiles", "raw_bid_outcomes", "rejected_rows")
DECIDING = ("training_dataset", "trained_model", "feature_importances", "metrics_report", "deployment", "model_card")


@dataclass
class Platform:
    """A platform after its first run."""

    settings: Settings
    store: VersionStore
    first_run: dict[str, Any]

    @property
    def window(self) -> str:
        """The window of the first run's cutoff."""
        return str(self.first_run["cutoff_windows"][0]["window"])

    def head(self, asset: str, window: str | None = None) -> Manifest:
        found = self.store.head(asset, window or self.window)
        assert found is not None
        return found

    def rows(self, asset: str, window: str | None = None) -> pa.Table:
        keys = [window or self.window]
        return WindowedTable(self.store, asset, keys, self.store.heads(asset, keys)).read()

    def versions(self) -> dict[str, int]:
        return {asset: len(self.store.versions(asset)) for asset in self.store.assets()}


def call(*arguments: str, fails: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == fails, result.output
    return result


def call_json(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--json").stdout)


def execute(url: str, statement: str) -> None:
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def make(platform: Platform, assets: list[str], window: str, **config: Any) -> RunOutcome:
    with open_instance() as instance:
        return materialise(build_defs(platform.settings, platform.store), instance, assets, [window], config=config)


@contextmanager
def small_platform(postgres: EmbeddedServer, folder: Path, static_encoder: Path, **values: object) -> Iterator[Platform]:
    """The platform after its first run, its settings in the environment; `values` are more settings."""
    (folder / "home").mkdir()
    (folder / "home" / "encoders").symlink_to(static_encoder.parent)
    with (
        fresh_databases(postgres) as new_database,
        settings_for(folder, new_database(), new_database(), LOOKBACK_WINDOWS=LOOKBACK, **values) as settings,
    ):
        call("marketplace", "create", "--weeks", str(WEEKS), "--bids", "3000")
        first = call_json("run")
        yield Platform(settings, VersionStore(settings.resolved_store_url), first)
