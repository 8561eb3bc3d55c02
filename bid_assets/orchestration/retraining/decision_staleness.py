"""Whether the decision about a window's model is current: to make it again, from its dataset on, would make nothing new.

Where that is not certain, it is not current. Equal must be: the inputs, settings, code and libraries of each version; the rows
before the cutoff; what the data-quality checks look at; and the state in which the decision has left the model. That the
features are current is the planner's business, which comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dagster as dg
import pyarrow.compute as pc

from bid_assets.common.renamed_settings import with_current_names
from bid_assets.deployments.events import is_recorded, read_history
from bid_assets.orchestration.assets.data_checks import QUALITY_BASIS_KEY, quality_basis
from bid_assets.orchestration.assets.dataset import DatasetConfig, cutoff_of
from bid_assets.orchestration.assets.model import training_config
from bid_assets.orchestration.assets.model_card import EARLIER_WINDOWS
from bid_assets.orchestration.assets.raw_tables import RAW_ASSETS
from bid_assets.orchestration.input_tracking import earlier_windows
from bid_assets.orchestration.io_managers import SETTINGS_KEY
from bid_assets.orchestration.refresh.planning import lookback_windows
from bid_assets.orchestration.run_history import RETRAINING_ASSETS
from bid_assets.settings import Settings
from bid_assets.version_store.code_version import library_versions
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore


def decision_is_current(
    definitions: dg.Definitions, settings: Settings, store: VersionStore, key: str, accept: Sequence[str] = ()
) -> bool:
    """Whether a run from dataset to model card of the window `key`, with `accept` in its config, would make nothing new."""
    heads = {asset: head for asset in RETRAINING_ASSETS if (head := store.head(asset, key)) is not None}
    if len(heads) < len(RETRAINING_ASSETS):
        return False
    windows = sorted(lookback_windows(settings, store, key))
    dataset = heads["training_dataset"]
    return (
        _same_code_and_settings(definitions, settings, heads, windows, accept)
        and all(_same_inputs(definitions, settings, store, head, windows) for head in heads.values())
        and dataset.info.get(QUALITY_BASIS_KEY) == quality_basis(store, settings, windows)
        and _same_rows_before_cutoff(settings, store, dataset, windows)
        and _state_is_as_decided(store, heads)
        and not store.damaged(heads.values(), checksums=store.files.local_reads)
    )


def _same_code_and_settings(
    definitions: dg.Definitions,
    settings: Settings,
    heads: Mapping[str, Manifest],
    windows: Sequence[str],
    accept: Sequence[str],
) -> bool:
    graph = definitions.resolve_asset_graph()
    lookback = len(windows) if settings.lookback_windows == "auto" else settings.lookback_windows
    configs = {
        "training_dataset": DatasetConfig.model_validate({"accept": list(accept)}),
        "trained_model": training_config(settings)(),
    }
    more: dict[str, dict[str, Any]] = {asset: {"config": config.model_dump(mode="json")} for asset, config in configs.items()}
    more["training_dataset"]["lookback_windows"] = lookback
    for asset, head in heads.items():
        node = graph.get(dg.AssetKey(asset))
        present = settings.model_dump(mode="json", include=set(node.metadata.get(SETTINGS_KEY, ()))) | more.get(asset, {})
        recorded = with_current_names(head.settings)
        if "config" in recorded:
            recorded["config"] = with_current_names(recorded["config"])
        if (head.code.asset, head.libraries, recorded) != (node.code_version, library_versions(), present):
            return False
    return True


def _same_inputs(
    definitions: dg.Definitions, settings: Settings, store: VersionStore, head: Manifest, windows: Sequence[str]
) -> bool:
    """Whether the version's inputs are the heads of now, all of them."""
    looks_back = head.asset == "training_dataset"
    parents = definitions.resolve_asset_graph().get(dg.AssetKey(head.asset)).parent_keys
    needed = {parent.to_user_string(): set(windows if looks_back else [head.partition]) for parent in parents}
    if head.asset == "model_card":
        needed["metrics_report"].update(earlier_windows(settings, head.partition, EARLIER_WINDOWS))
    for ref in head.inputs:  # also those that a step has pinned by itself
        needed.setdefault(ref.asset, set()).add(ref.partition)
    present = [manifest.ref for asset, keys in needed.items() for manifest in store.heads(asset, sorted(keys)).values()]
    complete = not looks_back or len(present) == len(needed) * len(windows)
    return complete and set(map(_identity, present)) == set(map(_identity, head.inputs))


def _identity(ref: InputRef) -> InputRef:
    """Raw tables and features count by content, as everywhere; what belongs to a decision names the others by version."""
    return ref if ref.asset in RETRAINING_ASSETS else replace(ref, version="")


def _same_rows_before_cutoff(settings: Settings, store: VersionStore, dataset: Manifest, windows: Sequence[str]) -> bool:
    """Whether the cutoff of now knows no more bids and outcomes than the dataset's: it moves while a window is open."""
    cutoff = cutoff_of(settings.cadence.window(dataset.partition), None)
    if dataset.cutoff is None or cutoff < dataset.cutoff:
        return False
    if cutoff == dataset.cutoff:
        return True
    late = [key for key in windows if settings.cadence.window(key).end > dataset.cutoff]
    for asset in ("raw_bids", "raw_bid_outcomes"):
        column = RAW_ASSETS[asset][0]
        times = WindowedTable(store, asset, late, store.heads(asset, late)).read([column])[column]
        newest = pc.max(times).as_py()
        if newest is not None and newest >= dataset.cutoff:
            return False
    return True


def _state_is_as_decided(store: VersionStore, heads: Mapping[str, Manifest]) -> bool:
    """Whether the history has the decision, and nobody has moved the model since."""
    decision, model, deployments = heads["deployment"].ref, heads["trained_model"].ref, read_history(store)
    return is_recorded(deployments, model, decision) and deployments.state(model).value == heads["deployment"].info.get(
        "outcome"
    )
