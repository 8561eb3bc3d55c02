"""Where everything is put together; the only place that is."""

from __future__ import annotations

import dagster as dg

from bid_assets.orchestration.assets.dataset import dataset_asset
from bid_assets.orchestration.assets.deployment import deployment_asset
from bid_assets.orchestration.assets.features import feature_assets
from bid_assets.orchestration.assets.hyperparameter_search import search_asset
from bid_assets.orchestration.assets.model import model_assets
from bid_assets.orchestration.assets.model_card import model_card_asset
from bid_assets.orchestration.assets.predictions import predictions_asset
from bid_assets.orchestration.assets.raw_tables import raw_assets
from bid_assets.orchestration.assets.report import report_asset
from bid_assets.orchestration.first_window import with_first_window
from bid_assets.orchestration.io_manager_formats import io_managers
from bid_assets.orchestration.jobs import jobs
from bid_assets.orchestration.schedules import schedules
from bid_assets.orchestration.sensors import sensors
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store


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
