"""Lineage from manifests alone: upstream (the inputs of a version, and theirs) and downstream (the versions made from it)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bid_assets.version_store.manifest import InputRef, Manifest, VersionKey
from bid_assets.version_store.plain_json import PLAIN_JSON
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore

FACTS = ("created_at", "run_id", "code", "rows", "cutoff", "settings")
"""The fields of a manifest that a node shows; the rest is in `bid-assets versions`."""


@dataclass(frozen=True)
class LineageNode:
    """A version and the nodes of its inputs. `manifest` is None where the store no longer has it."""

    ref: InputRef
    manifest: Manifest | None
    inputs: tuple[LineageNode, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the ref, the manifest's facts that matter for lineage, and the inputs. Shared nodes are one object."""
        known: dict[int, dict[str, Any]] = {}

        def as_dict(node: LineageNode) -> dict[str, Any]:
            if id(node) not in known:
                facts = {name: getattr(node.manifest, name) for name in FACTS} if node.manifest is not None else {}
                plain = orjson.loads(orjson.dumps({**asdict(node.ref), **facts}, option=PLAIN_JSON))
                known[id(node)] = {**plain, "inputs": [as_dict(each) for each in node.inputs]}
            return known[id(node)]

        return as_dict(self)


def upstream(store: VersionStore, manifest: Manifest) -> LineageNode:
    """The tree from a version down to raw windows. Shared nodes are loaded once, and are one object."""
    manifests = {manifest.ref: manifest}
    visited, pending = {manifest.ref}, set(manifest.inputs)
    while pending:
        visited |= pending
        loaded = store.manifests(pending)
        manifests |= loaded
        pending = {ref for each in loaded.values() for ref in each.inputs} - visited
    return _tree(manifest.ref, manifests, {})


def _tree(ref: InputRef, manifests: Mapping[InputRef, Manifest], nodes: dict[InputRef, LineageNode]) -> LineageNode:
    if ref not in nodes:
        manifest = manifests.get(ref)
        inputs = tuple(_tree(each, manifests, nodes) for each in manifest.inputs) if manifest else ()
        nodes[ref] = LineageNode(ref, manifest, inputs)
    return nodes[ref]


def downstream(store: VersionStore, asset: str, partition: str | None = None, version: str | None = None) -> list[Manifest]:
    """Every version made from these, directly or through others, in order of stage, then of window.

    Works for versions, too, whose own manifest is gone. Raises `VersionNotFoundError` where neither a manifest nor any input
    names such a version.
    """
    everything = store.all_versions()
    consumers = _consumers(everything)
    known = {*consumers, *map(_key, everything)}
    starts = {key for key in known if key[0] == asset and partition in (None, key[1]) and version in (None, key[2])}
    if not starts:
        raise VersionNotFoundError(f"the store knows no version {version or ''} of {asset}, window {partition or 'any'}")
    return _descendants(consumers, starts)


def versions_containing(
    store: VersionStore, column: str, value: str, assets: Iterable[str] = ("training_dataset",)
) -> list[Manifest]:
    """The versions of table assets in which some row has `value` in `column`, oldest first; then all versions made from them.

    Reads only that column. Raises `ValueError` for a version that does not have it.
    """
    everything = store.all_versions()
    tables = [manifest for manifest in everything if manifest.asset in set(assets)]
    matches = [manifest for manifest in tables if _contains(store, manifest, column, value)]
    return matches + _descendants(_consumers(everything), {_key(manifest) for manifest in matches})


def windows_with(store: VersionStore, asset: str, column: str, value: str) -> list[str]:
    """The windows of a table asset in whose HEAD some row has `value` in `column`, oldest first."""
    heads = store.heads(asset, store.partitions(asset))
    return [key for key, manifest in heads.items() if _contains(store, manifest, column, value)]


def _contains(store: VersionStore, manifest: Manifest, column: str, value: str) -> bool:
    """Whether a table has a row; only row groups whose statistics allow for it are read. One that is damaged is left out."""
    try:
        file = store.fetch(manifest)
    except CorruptVersionError as error:
        store.warn_of_damage("/".join((manifest.asset, manifest.partition, manifest.file)), str(error))
        return False
    if column not in pq.read_schema(file).names:
        raise ValueError(f"{store.file_url(manifest)} has no column {column}, so it cannot be told whether it holds {value}")
    return bool(pq.read_table(file, columns=[column], filters=pc.field(column) == value, partitioning=None).num_rows)


def _consumers(everything: Iterable[Manifest]) -> dict[VersionKey, list[Manifest]]:
    """The versions that name each version among their inputs."""
    consumers = defaultdict(list)
    for manifest in everything:
        for ref in manifest.inputs:
            consumers[_key(ref)].append(manifest)
    return consumers


def _descendants(consumers: Mapping[VersionKey, list[Manifest]], starts: set[VersionKey]) -> list[Manifest]:
    """All versions made from `starts`, in topological order: each comes after all of its inputs."""
    descendants: dict[VersionKey, Manifest] = {}
    pending = list(starts)
    while pending:
        consuming = consumers.get(pending.pop(), ())
        new = {_key(manifest): manifest for manifest in consuming if _key(manifest) not in descendants}
        descendants |= new
        pending += new
    stages: dict[VersionKey, int] = {}
    order = [
        (_stage(key, descendants, stages), item.asset, item.partition, item.created_at, key)
        for key, item in descendants.items()
    ]
    return [descendants[each[-1]] for each in sorted(order)]


def _stage(key: VersionKey, descendants: Mapping[VersionKey, Manifest], stages: dict[VersionKey, int]) -> int:
    """The length of the longest path from the starts to a version."""
    if key not in stages:
        inputs = {_key(ref) for ref in descendants[key].inputs} if key in descendants else set()
        stages[key] = 1 + max((_stage(each, descendants, stages) for each in inputs), default=-1)
    return stages[key]


def _key(item: Manifest | InputRef) -> VersionKey:
    return item.asset, item.partition, item.version
