"""Lineage both ways, from manifests alone: what a version was made from, and what was made from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bid_assets.version_store.content_hash import PLAIN_JSON
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore

FACTS = ("created_at", "run_id", "code", "rows", "cutoff", "settings")
"""What a node says of its manifest; the rest is in `bid-assets versions`."""

Key = tuple[str, str, str]


@dataclass(frozen=True)
class LineageNode:
    """A version and the nodes of what it was made from. `manifest` is None where the store no longer has it."""

    ref: InputRef
    manifest: Manifest | None
    inputs: tuple[LineageNode, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the ref, the manifest's facts that matter for lineage, and the inputs. Shared nodes are one object."""
        known: dict[int, dict[str, Any]] = {}

        def told(node: LineageNode) -> dict[str, Any]:
            if id(node) not in known:
                facts = {name: getattr(node.manifest, name) for name in FACTS} if node.manifest is not None else {}
                plain = orjson.loads(orjson.dumps({**asdict(node.ref), **facts}, option=PLAIN_JSON))
                known[id(node)] = {**plain, "inputs": [told(each) for each in node.inputs]}
            return known[id(node)]

        return told(self)


def upstream(store: VersionStore, manifest: Manifest) -> LineageNode:
    """The tree from a version down to raw windows. Shared nodes are loaded once, and are one object."""
    found = {manifest.ref: manifest}
    asked, waiting = {manifest.ref}, set(manifest.inputs)
    while waiting:
        asked |= waiting
        loaded = store.manifests(waiting)
        found |= loaded
        waiting = {ref for each in loaded.values() for ref in each.inputs} - asked
    return _tree(manifest.ref, found, {})


def _tree(ref: InputRef, found: Mapping[InputRef, Manifest], known: dict[InputRef, LineageNode]) -> LineageNode:
    if ref not in known:
        manifest = found.get(ref)
        inputs = tuple(_tree(each, found, known) for each in manifest.inputs) if manifest else ()
        known[ref] = LineageNode(ref, manifest, inputs)
    return known[ref]


def downstream(store: VersionStore, asset: str, partition: str | None = None, version: str | None = None) -> list[Manifest]:
    """Every version that learned from these, directly or through others, in order of stage, then of window.

    Works for versions, too, whose own manifest is gone. Raises `VersionNotFoundError` where neither a manifest nor any input names
    such a version.
    """
    everything = store.everything()
    learned = _learned(everything)
    known = {*learned, *map(_key, everything)}
    starts = {key for key in known if key[0] == asset and partition in (None, key[1]) and version in (None, key[2])}
    if not starts:
        raise VersionNotFoundError(f"the store knows no version {version or ''} of {asset}, window {partition or 'any'}")
    return _below(learned, starts)


def containing(store: VersionStore, column: str, value: str, assets: Iterable[str] = ("training_dataset",)) -> list[Manifest]:
    """The versions of table assets in which some row has `value` in `column`, oldest first; then all that learned from them.

    Reads only that column. Raises `ValueError` for a version that does not have it.
    """
    everything = store.everything()
    tables = [manifest for manifest in everything if manifest.asset in set(assets)]
    found = [manifest for manifest in tables if _contains(store, manifest, column, value)]
    return found + _below(_learned(everything), {_key(manifest) for manifest in found})


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


def _learned(everything: Iterable[Manifest]) -> dict[Key, list[Manifest]]:
    """The versions that name each version among their inputs."""
    learned = defaultdict(list)
    for manifest in everything:
        for ref in manifest.inputs:
            learned[_key(ref)].append(manifest)
    return learned


def _below(learned: Mapping[Key, list[Manifest]], starts: set[Key]) -> list[Manifest]:
    """All that was made from `starts`, in order of stage: everything comes after all of its inputs."""
    found: dict[Key, Manifest] = {}
    waiting = list(starts)
    while waiting:
        new = {_key(manifest): manifest for manifest in learned.get(waiting.pop(), ()) if _key(manifest) not in found}
        found |= new
        waiting += new
    stages: dict[Key, int] = {}
    order = [(_stage(key, found, stages), item.asset, item.partition, item.created_at, key) for key, item in found.items()]
    return [found[each[-1]] for each in sorted(order)]


def _stage(key: Key, found: Mapping[Key, Manifest], stages: dict[Key, int]) -> int:
    """How many steps a version is away from where the search started, by the longest way."""
    if key not in stages:
        inputs = {_key(ref) for ref in found[key].inputs} if key in found else set()
        stages[key] = 1 + max((_stage(each, found, stages) for each in inputs), default=-1)
    return stages[key]


def _key(item: Manifest | InputRef) -> Key:
    return item.asset, item.partition, item.version
