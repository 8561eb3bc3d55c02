"""Where everything is put together; the only place that is. Dagster loads `defs`, the rest calls `build_defs`."""

from __future__ import annotations

import dagster as dg

from bid_assets.assets.dataset import dataset_asset
from bid_assets.assets.deployment import deployment_asset
from bid_assets.assets.features import feature_assets
from bid_assets.assets.model import model_assets
from bid_assets.assets.model_card import model_card_asset
from bid_assets.assets.predictions import predictions_asset
from bid_assets.assets.raw import raw_assets
from bid_assets.assets.report import report_asset
from bid_assets.assets.search import search_asset
from bid_assets.automation.jobs import jobs
from bid_assets.automation.schedules import schedules
from bid_assets.automation.sensors import sensors
from bid_assets.first_window import with_first_window
from bid_assets.io_managers import io_managers
from bid_assets.settings import Settings, get_settings
from bid_assets.versions.metadata import open_store
from bid_assets.versions.store import VersionStore


def build_defs(settings: Settings | None = None, store: VersionStore | None = None) -> dg.Definitions:
    """The asset graph for these settings and this store; by default those of the environment."""
    settings = settings or get_settings()
    store = store or open_store(settings)
    settings = with_first_window(settings, store)
    return dg.Definitions(
        assets=[
            raw_assets(settings),
            predictions_asset(settings),
            *feature_assets(settings),
            dataset_asset(settings),
            search_asset(settings),
            *model_assets(settings),
            report_asset(settings),
            deployment_asset(settings),
            model_card_asset(settings),
        ],
        jobs=jobs(),
        sensors=sensors(settings, store),
        schedules=schedules(settings, store),
        resources={**io_managers(store, settings), "store": store},
        executor=dg.in_process_executor,
    )


defs = build_defs()
