"""Compare the active model (champion) with a new one (challenger) on the holdout bids unseen by the champion."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.modelling.dataset.assemble import columns_with_texts, labels
from bid_assets.modelling.estimators.column_encoders import ColumnMismatchError
from bid_assets.modelling.evaluation.metrics import success_is_rarer
from bid_assets.modelling.evaluation.slices import slice_columns
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.model_file import ModelFormatError, load
from bid_assets.modelling.promotion.champion_challenger import compare
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import CorruptVersionError, VersionNotFoundError, VersionStore

_TRAINING_SPLITS = ["train"]
_REFIT_SPLITS = [*_TRAINING_SPLITS, "embargo", "holdout"]


class NotComparableError(Exception):
    """The active model cannot score the bids of this dataset; the message says why."""


def compare_with_champion(
    store: VersionStore, champion: InputRef, challenger: BidSuccessModel, dataset: WindowedTable
) -> dict[str, Any]:
    """`promotion.champion_challenger.compare` of the two on the dataset's holdout, and on which of its bids.

    Further keys: `champion` (version), `champion_window`, `champion_dataset` (version), `left_out` (holdout bids that the
    champion has learned from), `fresher` (whether the challenger has learned from another dataset, of no earlier cutoff),
    `note`. Raises `NotComparableError`.
    """
    manifest, model = _load(store, champion)
    dataset_ref = next((ref for ref in manifest.inputs if ref.asset == "training_dataset"), None)
    if dataset_ref is None:
        raise NotComparableError(f"{champion.version} does not say which dataset it learned from")
    [own] = dataset.manifests
    _same_encoder(model, own)
    texts = model.text_columns | challenger.text_columns
    holdout = dataset.read(lambda schema: columns_with_texts(schema, texts), where=pc.field("split") == "holdout")
    unseen = holdout.filter(pc.invert(pc.is_in(holdout["bid_id"], value_set=_training_bids(store, dataset_ref, model))))
    train = dataset.read(["profile_id", "target_is_success"], where=pc.field("split") == "train")
    try:
        scores = model.predict(unseen)
    except ColumnMismatchError as error:
        raise NotComparableError(f"{champion.version} cannot score this dataset: {error}") from None
    comparison = compare(
        labels(unseen),
        scores,
        (challenger.holdout_model or challenger).predict(unseen),
        unseen["profile_id"].to_numpy(),
        slice_columns(unseen, pc.unique(train["profile_id"])),
        rarer_is_success=success_is_rarer(labels(train)),
    )
    left_out = holdout.num_rows - unseen.num_rows
    return {
        **comparison,
        "champion": champion.version,
        "champion_window": champion.partition,
        "champion_dataset": dataset_ref.version,
        "left_out": left_out,
        "fresher": own.version != dataset_ref.version and _cutoff(own) >= _cutoff(_manifest(store, dataset_ref)),
        "note": f"both were scored on {unseen.num_rows} holdout bids"
        + (f"; {left_out} more were left out, since the active model has learned from them" if left_out else ""),
    }


def _load(store: VersionStore, champion: InputRef) -> tuple[Manifest, BidSuccessModel]:
    try:
        manifest = store.manifest(champion.asset, champion.partition, champion.version)
        return manifest, load(store.fetch(manifest))
    except (VersionNotFoundError, CorruptVersionError) as error:
        raise NotComparableError(f"the active model is damaged or gone: {error}") from None
    except ModelFormatError as error:
        raise NotComparableError(f"{champion.version} cannot be loaded: {error}") from None


def _same_encoder(model: BidSuccessModel, dataset: Manifest) -> None:
    theirs, ours = model.encoder_fingerprint, dataset.info.get("encoder_fingerprint")
    if theirs is not None and ours is not None and theirs != ours:
        raise NotComparableError(f"the active model reads texts by another encoder ({theirs}) than this dataset has ({ours})")


def _training_bids(store: VersionStore, dataset_ref: InputRef, model: BidSuccessModel) -> pa.Array:
    """The bids that the champion was trained on."""
    manifest = _manifest(store, dataset_ref)
    rows = WindowedTable(store, dataset_ref.asset, [dataset_ref.partition], {dataset_ref.partition: manifest}).read(
        ["bid_id", "split"]
    )
    return rows.filter(
        pc.is_in(rows["split"], value_set=pa.array(_REFIT_SPLITS if model.holdout_model is not None else _TRAINING_SPLITS))
    )["bid_id"].combine_chunks()


def _manifest(store: VersionStore, ref: InputRef) -> Manifest:
    try:
        return store.manifest(ref.asset, ref.partition, ref.version)
    except (VersionNotFoundError, CorruptVersionError) as error:
        raise NotComparableError(f"what the active model learned from is damaged or gone: {error}") from None


def _cutoff(dataset: Manifest) -> str:
    return dataset.cutoff.isoformat() if dataset.cutoff is not None else ""
