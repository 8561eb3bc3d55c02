"""`bid-assets rebuild`: make a version again from its pinned inputs and compare the content. Writes nothing."""

from __future__ import annotations

from bid_assets.cli.output import console, print_json, progress_bars
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.rebuild import rebuilt_content_hash
from bid_assets.settings import get_settings
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
