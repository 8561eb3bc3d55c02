"""`bid-assets report`: where the model card is, or a copy of it, or the browser opened on it."""

from __future__ import annotations

import shutil
import webbrowser
from pathlib import Path

from bid_assets.cli.inspect import find_manifest
from bid_assets.deployments.commands import MODEL
from bid_assets.deployments.events import active_model
from bid_assets.settings import get_settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store
from bid_assets.version_store.version_ids import resolve


def report(version: str | None, partition: str | None, output: Path | None, *, open_it: bool) -> None:
    """Print the path of a model's card, after copying it to `output` or opening it, if asked."""
    store = open_store(get_settings())
    path = store.fetch(card_of(store, version, partition))
    if output is not None:
        shutil.copyfile(path, output)
        path = output
    if open_it:
        webbrowser.open(path.absolute().as_uri())
    print(path)


def card_of(store: VersionStore, version: str | None, partition: str | None) -> Manifest:
    """The newest card about a model: the one of this version, else the window's, else the active one."""
    if version is None and partition is not None:
        return find_manifest(store, "model_card", partition, None)
    if version is None:
        active = active_model(store)
        if active is None:
            raise ValueError("no model is active; name a model's version, or --partition WINDOW")
        version = active.model.version
    _, version = resolve(store, MODEL, version)
    cards = [card for card in store.versions("model_card") if any(ref.version == version for ref in card.inputs)]
    if not cards:
        raise ValueError(
            f"the store has no model_card of {version}; materialize `model_card` in its window, or run `bid-assets run`"
        )
    return cards[-1]
