"""`bid-assets rebuild`: make a version again from its pinned inputs and compare the content. Writes nothing."""

from __future__ import annotations

from typing import Any

import dagster as dg

from bid_assets.cli.output import console, print_json, progress_bars
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.definitions import build_defs
from bid_assets.orchestration.in_process_runs import materialize
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.replay import PinnedStore
from bid_assets.version_store.store_metadata import open_store
from bid_assets.version_store.version_ids import resolve


def rebuild(asset: str, version: str, partition: str | None, *, as_json: bool) -> bool:
    """Rebuild a version and say whether its content hash is the same; True where it is."""
    settings = get_settings()
    store = open_store(settings)
    manifest = store.manifest(asset, *resolve(store, asset, version, partition))
    if asset in RAW_ASSETS:
        raise ValueError(f"{asset} is read from the application's database, which has moved on; raw versions cannot be rebuilt")
    with progress_bars():
        content_hash = rebuilt_content_hash(settings, manifest)
    same = content_hash == manifest.content_hash
    if as_json:
        print_json(
            {"asset": asset, "partition": manifest.partition, "version": manifest.version, "same": same}
            | {"content_hash": manifest.content_hash, "rebuilt_content_hash": content_hash}
        )
    else:
        verdict = "[green]the same content[/green]" if same else "[red]different content[/red]"
        inputs = f"{len(manifest.inputs)} pinned input{'' if len(manifest.inputs) == 1 else 's'}"
        console.print(f"{manifest.version} rebuilt from {inputs}: {verdict}")
        console.print(f"  then {manifest.content_hash}\n  now  {content_hash}")
    return same


def rebuilt_content_hash(settings: Settings, manifest: Manifest) -> str:
    """Run the asset of `manifest` once more, with its inputs, settings, config and cutoff; the hash of what comes out."""
    store = PinnedStore(settings.resolved_store_url, manifest)
    failures = make_again(settings, store)
    if not store.drafts:
        raise RuntimeError(f"{manifest.version} could not be rebuilt: {'; '.join(failures) or 'the asset gave nothing'}")
    draft = store.drafts[-1]
    return manifest.content_hash if draft.has_content(manifest.content_hash) else draft.content_hash


def make_again(settings: Settings, store: PinnedStore) -> tuple[str, ...]:
    """Run the asset of the version that `store` is pinned to, for its window; the failures. Raw tables are read all together."""
    manifest = store.rebuilt
    then = settings.model_validate({**settings.model_dump(), **_settings_of(manifest)})
    config = {manifest.asset: _config_of(manifest)} if _config_of(manifest) else {}
    assets = list(RAW_ASSETS) if manifest.asset in RAW_ASSETS else [manifest.asset]
    with dg.DagsterInstance.ephemeral() as instance:
        return materialize(build_defs(then, store), instance, assets, [manifest.partition], config=config).failures


def _settings_of(manifest: Manifest) -> dict[str, Any]:
    return {name: value for name, value in manifest.settings.items() if name in Settings.model_fields}


def _config_of(manifest: Manifest) -> dict[str, Any]:
    config = dict(manifest.settings.get("config", {}))
    if manifest.cutoff is not None:
        config["cutoff"] = manifest.cutoff.isoformat()
    return config
