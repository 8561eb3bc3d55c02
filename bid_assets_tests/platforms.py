"""A small platform for tests: a market of eight weeks in a real PostgreSQL, and the main job run over it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
from click.testing import CliRunner, Result

from bid_assets.cli import main
from bid_assets.deployments.events import active_model
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.in_process_runs import RunOutcome, materialize
from bid_assets.orchestration.instance import open_instance
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.conftest import copied_databases, fresh_databases, one_worker_at_a_time, seal, settings_for

WEEKS, LOOKBACK = 8, 6
TEMPLATES = ("template_app", "template_dagster")
FIRST_RUN = "first_run.json"
FAMILIES = (
    "profile_features",
    "bid_temporal_features",
    "profile_historical_features",
    "client_historical_features",
    "word_features",
)
EMBEDDINGS = ("job_description_embeddings", "bid_text_embeddings")
RAW = ("raw_bids", "raw_jobs", "raw_profiles", "raw_bid_outcomes", "rejected_rows")
RETRAINING_ASSETS = ("training_dataset", "trained_model", "feature_importances", "metrics_report", "deployment", "model_card")


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

    @property
    def active_model(self) -> InputRef:
        """The version that is active."""
        active = active_model(self.store)
        assert active is not None
        return active.model

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
        return materialize(build_defs(platform.settings, platform.store), instance, assets, [window], config=config)


@contextmanager
def small_platform(postgres: EmbeddedServer, folder: Path, static_encoder: Path, **values: object) -> Iterator[Platform]:
    """The platform after its first run, its settings in the environment; `values` are more settings, for what comes after.

    Made once per run of pytest, and given out as a copy: databases, store, caches.
    """
    template = _template(postgres, static_encoder)
    shutil.copytree(template / "home", folder / "home", symlinks=True)
    with (
        copied_databases(postgres, *TEMPLATES) as [app_db, dagster_db],
        settings_for(folder, app_db, dagster_db, LOOKBACK_WINDOWS=LOOKBACK, **values) as settings,
    ):
        first_run = json.loads((template / FIRST_RUN).read_text())
        yield Platform(settings, VersionStore(settings.resolved_store_url), first_run)


@contextmanager
def new_platform(postgres: EmbeddedServer, folder: Path, static_encoder: Path, **values: object) -> Iterator[Platform]:
    """The same, made on the spot: where `values` have a say in the first run."""
    with fresh_databases(postgres) as new_database:
        urls = new_database(), new_database()
        with settings_for(folder, *urls, LOOKBACK_WINDOWS=LOOKBACK, **values) as settings:
            first_run = _first_run(settings, static_encoder)
            yield Platform(settings, VersionStore(settings.resolved_store_url), first_run)


def _first_run(settings: Settings, static_encoder: Path) -> dict[str, Any]:
    settings.home.mkdir()
    (settings.home / "encoders").symlink_to(static_encoder.parent)
    call("marketplace", "create", "--weeks", str(WEEKS), "--bids", "3000")
    result: dict[str, Any] = call_json("run")
    return result


def _template(postgres: EmbeddedServer, static_encoder: Path) -> Path:
    """The folder of the platform that others are copied from, made by whichever worker is first; nobody is connected to it."""
    folder = postgres.folder.parent / "platform"
    with one_worker_at_a_time(postgres.folder.parent / "platform.lock"):
        if not (folder / FIRST_RUN).exists():
            folder.mkdir()
            with settings_for(folder, *map(postgres.url, TEMPLATES), LOOKBACK_WINDOWS=LOOKBACK) as settings:
                result = _first_run(settings, static_encoder)
            seal(postgres, *TEMPLATES)
            (folder / FIRST_RUN).write_text(json.dumps(result))
    return folder
