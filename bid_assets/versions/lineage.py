"""Lineage both ways, from manifests alone: what a version was made from, and what was made from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow.parquet as pq

from bid_assets.versions.manifest import InputRef, Manifest
from bid_assets.versions.store import VersionNotFound, VersionStore


@dataclass(frozen=True)
class LineageNode:
    """A version and the nodes of what it was made from. `manifest` is None where the store no longer has it."""

    ref: InputRef
    manifest: Manifest | None
    inputs: tuple[LineageNode, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the ref, the manifest's facts that matter for lineage, and the inputs."""
        facts: dict[str, Any] = {}
        if self.manifest is not None:
            text = orjson.loads(self.manifest.to_json())
            facts = {name: text[name] for name in ("created_at", "run_id", "code", "rows", "cutoff", "settings")}
        return {**self.ref._asdict(), **facts, "inputs": [node.to_dict() for node in self.inputs]}


def upstream(store: VersionStore, manifest: Manifest) -> LineageNode:
    """The tree from a version down to raw windows. Shared nodes are loaded once, and are one object."""
    known: dict[InputRef, LineageNode] = {}

    def node(ref: InputRef) -> LineageNode:
        if ref not in known:
            try:
                found = store.manifest(ref.asset, ref.partition, ref.version)
            except VersionNotFound:
                found = None
            known[ref] = _node(ref, found)
        return known[ref]

    def _node(ref: InputRef, found: Manifest | None) -> LineageNode:
        return LineageNode(ref, found, tuple(node(each) for each in found.inputs) if found else ())

    return _node(manifest.ref, manifest)


def downstream(store: VersionStore, asset: str, partition: str | None = None, version: str | None = None) -> list[Manifest]:
    """Every version that was made from these, directly or through others, in order of making."""
    learned = defaultdict(list)
    everything = [manifest for name in store.assets() for manifest in store.versions(name)]
    for manifest in everything:
        for ref in manifest.inputs:
            learned[ref.asset, ref.partition, ref.version].append(manifest)
    starts = [
        item
        for item in everything
        if item.asset == asset and partition in (None, item.partition) and version in (None, item.version)
    ]
    found: dict[tuple[str, str, str], Manifest] = {}
    waiting = [item.ref[:3] for item in starts]
    while waiting:
        for manifest in learned[waiting.pop()]:
            key = manifest.ref[:3]
            if key not in found:
                found[key] = manifest
                waiting.append(key)
    return sorted(found.values(), key=lambda item: (item.created_at, item.partition, item.asset))


def containing(store: VersionStore, column: str, value: str, assets: Iterable[str] = ("training_dataset",)) -> list[Manifest]:
    """The versions of table assets in which some row has `value` in `column`, oldest first. Reads that column only."""
    found = []
    for asset in assets:
        for manifest in store.versions(asset):
            rows = pq.read_table(store.fetch(manifest), columns=[column], filters=[(column, "==", value)], partitioning=None)
            if rows.num_rows:
                found.append(manifest)
    return found
