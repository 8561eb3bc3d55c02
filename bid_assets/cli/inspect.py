"""`bid-assets versions` and `bid-assets lineage`: what is in the store, for people as tables and trees, for scripts as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from rich.table import Table
from rich.tree import Tree

from bid_assets.cli.models import METRICS, MODEL, metric_cells, model_metrics, state_cell
from bid_assets.cli.output import console, print_json, stderr
from bid_assets.deployments.events import ModelState, read_history
from bid_assets.settings import get_settings
from bid_assets.version_store import lineage
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store
from bid_assets.version_store.version_ids import resolve, short_ids

SHOWN_WINDOWS = 3
"""So many windows of an asset are drawn in a tree; the others are counted."""


def show_versions(asset: str, partition: str | None, *, as_json: bool) -> None:
    """All versions of an asset, oldest first; models with their metrics and what they are now."""
    store = open_store(get_settings())
    assets = store.assets()
    if asset not in assets:
        raise ValueError(f"the store holds no versions of {asset!r}; it has {', '.join(assets) or 'none at all'}")
    manifests = store.versions(asset, partition)
    if as_json:
        print_json([orjson.loads(manifest.to_json()) for manifest in manifests])
        return
    heads = store.heads(asset, sorted({manifest.partition for manifest in manifests}))
    ids = short_ids(version for _, version in store.version_names(asset))
    about = _of_models(store) if asset == MODEL else _of_tables
    table = Table("version", "window", "created (UTC)", title=asset, title_justify="left")
    for item in manifests:
        head = "HEAD" if item == heads.get(item.partition) else ""
        cells = {"bytes": f"{item.bytes:,}", **about(item), "": head}
        for name in list(cells)[len(table.columns) - 3 :]:
            table.add_column(name)
        table.add_row(ids[item.version], item.partition, f"{item.created_at:%Y-%m-%d %H:%M}", *cells.values())
    console.print(table)


def _of_tables(item: Manifest) -> dict[str, str]:
    rows = "" if item.rows is None else f"{item.rows:,}"
    return {"rows": rows, "inputs": str(len(item.inputs)), "content": item.content_hash[:8]}


def _of_models(store: VersionStore) -> Callable[[Manifest], dict[str, str]]:
    """How good a model is, and what it is now."""
    metrics, states = model_metrics(store), read_history(store).states

    def about(item: Manifest) -> dict[str, str]:
        cells = dict(zip(METRICS.values(), metric_cells(metrics.get(item.version)), strict=True))
        return {**cells, "state": state_cell(states.get(item.ref, ModelState.CANDIDATE))}

    return about


def find_manifest(store: VersionStore, asset: str, partition: str | None, version: str | None) -> Manifest:
    """The manifest that a person means: a given version (or short id), or the head of a window, or of the newest window."""
    if version is not None:
        return store.manifest(asset, *resolve(store, asset, version, partition))
    if partition is None:
        partitions = store.partitions(asset)
        if not partitions:
            raise ValueError(f"the store holds no versions of {asset!r}; `bid-assets versions ASSET` lists what there is")
        partition = partitions[-1]
    head = store.head(asset, partition)
    if head is None:
        raise ValueError(f"{asset} has no version for window {partition}; make it with `bid-assets run --to {partition}`")
    return head


def show_lineage(asset: str, partition: str | None, version: str | None, *, downstream: bool, as_json: bool) -> None:
    """The tree above a version, or the versions below it."""
    store = open_store(get_settings())
    manifest = find_manifest(store, asset, partition, version)
    if downstream:
        _show_versions_below(
            lineage.downstream(store, manifest.asset, manifest.partition, manifest.version),
            f"Made from {manifest.version} of window {manifest.partition}",
            as_json=as_json,
        )
        return
    node = lineage.upstream(store, manifest)
    if as_json:
        print_json(node.to_dict())
    else:
        console.print(lineage_tree(node))


def show_containing(*, profile: str | None, bid: str | None, as_json: bool) -> None:
    """The datasets that contain a profile's bids or a bid, and all that was made from them."""
    store = open_store(get_settings())
    column, value = ("profile_id", profile) if profile is not None else ("bid_id", bid)
    assert value is not None
    whose = f"{column.removesuffix('_id')} {value}"
    versions = lineage.versions_containing(store, column=column, value=value)
    if not versions:
        windows = lineage.windows_with(store, "raw_bids", "profile_id" if profile is not None else "id", value)
        if not windows:
            raise ValueError(f"{whose} is unknown: no bid that was read into the store has this id, spelt as in the database")
        stderr.print(f"{whose} is known: it has bids in {len(windows)} window(s), {windows[0]} to {windows[-1]}")
    _show_versions_below(versions, f"Learned from {whose}", as_json=as_json)


def _show_versions_below(manifests: list[Manifest], title: str, *, as_json: bool) -> None:
    if as_json:
        print_json([orjson.loads(manifest.to_json()) for manifest in manifests])
        return
    if not manifests:
        console.print(f"{title}: nothing")
        return
    table = Table("asset", "window", "version", "created (UTC)", title=title, title_justify="left")
    for item in manifests:
        table.add_row(item.asset, item.partition, item.version, f"{item.created_at:%Y-%m-%d %H:%M}")
    console.print(table)


def lineage_tree(node: Any) -> Tree:
    """A readable tree: the newest windows of each input, the others counted, raw windows and commits at the leaves."""
    tree = Tree(_label(node))
    _grow(tree, node)
    return tree


def _grow(tree: Tree, node: Any) -> None:
    by_asset: dict[str, list[Any]] = {}
    for child in node.inputs:
        by_asset.setdefault(child.ref.asset, []).append(child)
    for asset, children in by_asset.items():
        newest = sorted(children, key=lambda child: str(child.ref.partition))[-SHOWN_WINDOWS:]
        branch = tree
        if len(children) > 1:
            branch = tree.add(f"[bold]{asset}[/bold], {len(children)} windows from {min(c.ref.partition for c in children)}")
            newest = newest[-1:]
        for child in newest:
            _grow(branch.add(_label(child)), child)


def _label(node: Any) -> str:
    manifest = node.manifest
    if manifest is None:
        return f"[red]{node.ref.asset} {node.ref.partition} {node.ref.version}: manifest is gone[/red]"
    commit = (manifest.code.git_commit or "no commit")[:10] + ("+changes" if manifest.code.dirty else "")
    rows = "" if manifest.rows is None else f", {manifest.rows:,} rows"
    return f"[bold]{manifest.partition}[/bold] [cyan]{manifest.version}[/cyan]{rows} [dim]({commit})[/dim]"
