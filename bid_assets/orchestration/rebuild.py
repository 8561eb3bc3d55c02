"""Run the asset of a version again from its pinned inputs, on an instance of its own. What is written, if anything, is the
store's choice.

For `bid-assets rebuild`, which compares content, and `bid-assets verify --repair`, which restores files.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from bid_assets.common.renamed_settings import with_current_names
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.in_process_runs import materialize
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.replay import PinnedStore


def rebuilt_content_hash(settings: Settings, manifest: Manifest) -> str:
    """Run the asset of `manifest` once more, with its inputs, settings, config and cutoff; the hash of what comes out."""
    store = PinnedStore(settings.resolved_store_url, manifest)
    failures = rerun_asset(settings, store)
    if not store.drafts:
        raise RuntimeError(f"{manifest.version} could not be rebuilt: {'; '.join(failures) or 'the asset gave nothing'}")
    draft = store.drafts[-1]
    return manifest.content_hash if draft.has_content(manifest.content_hash) else draft.content_hash


def rerun_asset(settings: Settings, store: PinnedStore) -> tuple[str, ...]:
    """Run the asset of the version that `store` is pinned to, for its window; the failures.

    Raw tables are read all together.
    """
    manifest = store.target
    settings_then = settings.model_validate({**settings.model_dump(), **_settings_of(manifest)})
    config = {manifest.asset: _config_of(manifest)} if _config_of(manifest) else {}
    assets = list(RAW_ASSETS) if manifest.asset in RAW_ASSETS else [manifest.asset]
    with dg.DagsterInstance.ephemeral() as instance:
        return materialize(build_defs(settings_then, store), instance, assets, [manifest.partition], config=config).failures


def _settings_of(manifest: Manifest) -> dict[str, Any]:
    return {name: value for name, value in with_current_names(manifest.settings).items() if name in Settings.model_fields}


def _config_of(manifest: Manifest) -> dict[str, Any]:
    config = with_current_names(manifest.settings.get("config", {}))
    if manifest.cutoff is not None:
        config["cutoff"] = manifest.cutoff.isoformat()
    return config
