"""The Python API for notebooks and scripts: open a store, load datasets and models, score rows. Reads only.

Everything here is stable: names, parameters and types change only with a deprecation in between. Import it from the package:
`bid_assets.load_model("active")`, `bid_assets.load_dataset(...)`, `bid_assets.Store(...)`. What else the package holds is
internal. Nothing of Dagster is imported, and no database is queried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.deployments.events import active_model
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionNotFoundError, VersionStore
from bid_assets.version_store.version_ids import resolve

if TYPE_CHECKING:
    import pandas as pd

    from bid_assets.modelling.model import BidSuccessModel

ACTIVE = "active"
NEWEST = "newest"
_MODEL, _DATASET = "trained_model", "training_dataset"


@dataclass(frozen=True)
class Version:
    """Metadata of one immutable version of an asset."""

    asset: str
    window: str
    """The partition key: first day of the window, `YYYY-MM-DD`."""
    version: str
    created_at: datetime
    """UTC."""
    rows: int | None
    cutoff: datetime | None
    """Of a dataset: it contains only what was known before this moment."""
    inputs: tuple[tuple[str, str, str], ...]
    """Lineage: asset, window and version of each input."""
    info: dict[str, Any]
    """Metadata that the asset recorded, such as the metrics of a report."""


@dataclass(frozen=True)
class Model:
    """A trained model, ready to score."""

    version: Version
    dataset: str | None
    """Version of the training dataset."""
    threshold: float
    """The model predicts success from this probability on."""
    columns: tuple[str, ...]
    """The columns that `predict` requires of a table; a training dataset has them."""
    _scorer: BidSuccessModel = field(repr=False)

    def predict(self, table: pa.Table | pd.DataFrame) -> npt.NDArray[np.float64]:
        """The probability of success of each row, shape (rows,).

        `table` has the columns of a training dataset, at least `columns`; others are ignored. Raises `ValueError` where columns
        are missing or of other types.
        """
        from bid_assets.modelling.dataset.frames import table_from_frame

        return self._scorer.predict(
            table if isinstance(table, pa.Table) else table_from_frame(table, self._scorer.feature_schema)
        )


class Store:
    """The versions below a folder or an fsspec URL; by default the store of the settings (`BID_ASSETS_HOME`, `.env`)."""

    def __init__(self, url: str | Path | None = None) -> None:
        if url is None:
            from bid_assets.settings import get_settings

            url = get_settings().resolved_store_url
        self.url = str(url)
        self._versions = VersionStore(self.url)

    def assets(self) -> list[str]:
        """The names of the assets that have versions."""
        return self._versions.assets()

    def windows(self, asset: str) -> list[str]:
        """The windows of an asset that have a version, oldest first."""
        return self._versions.partitions(asset)

    def versions(self, asset: str, window: str | None = None) -> list[Version]:
        """All versions of an asset, or of one of its windows, oldest first."""
        return [_version(manifest) for manifest in self._versions.versions(asset, window)]

    def load_table(
        self, asset: str, windows: str | Sequence[str] | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows of a table asset (`raw_bids`, a feature family) in some windows, or all, as readers get them now.

        Raises `LookupError` for a window without a version, `ValueError` for a column that there is not, `RuntimeError` for a
        damaged file.
        """
        keys = self.windows(asset) if windows is None else [windows] if isinstance(windows, str) else list(windows)
        table = WindowedTable(self._versions, asset, keys, self._versions.heads(asset, keys))
        if table.missing or not keys:
            raise VersionNotFoundError(f"{asset} has no version of window {', '.join(table.missing) or '(any)'} in {self.url}")
        return table.read(columns)

    def load_dataset(self, version: str = NEWEST, columns: Sequence[str] | None = None) -> pa.Table:
        """A training dataset, one row per labelled bid; `to_pandas()` makes it a frame.

        `version`: a version or short id; `"newest"`: that of the newest window; `"active"`: the one that the active model
        was trained on. Raises `LookupError` where there is none, `RuntimeError` for a damaged file.
        """
        if version == ACTIVE:
            manifest = self._manifest(_DATASET, self._dataset_of(self._resolve_manifest(_MODEL, ACTIVE)))
        else:
            manifest = self._resolve_manifest(_DATASET, version)
        return WindowedTable(self._versions, _DATASET, [manifest.partition], {manifest.partition: manifest}).read(columns)

    def load_model(self, version: str = ACTIVE) -> Model:
        """A model. `version`: a version or short id; `"active"`: the one that is served; `"newest"`: of the newest window.

        Its checksum is verified before it is opened. Raises `LookupError` where there is none, `RuntimeError` for a damaged
        file, or one that this version of the code cannot load.
        """
        from bid_assets.modelling import model_file

        manifest = self._resolve_manifest(_MODEL, version)
        scorer = model_file.load(self._versions.fetch(manifest))
        dataset = next((ref.version for ref in manifest.inputs if ref.asset == _DATASET), None)
        return Model(_version(manifest), dataset, scorer.threshold, tuple(scorer.feature_schema.names), scorer)

    def _resolve_manifest(self, asset: str, version: str) -> Manifest:
        """The manifest that "active", "newest", a version or a short id stands for. Raises `VersionNotFoundError`."""
        if version == ACTIVE:
            active = active_model(self._versions)
            if active is None:
                raise VersionNotFoundError(f"no model is active in {self.url}; `bid-assets run` makes one")
            return self._manifest(asset, active.model)
        if version == NEWEST:
            heads = self._versions.heads(asset, self.windows(asset))
            if not heads:
                raise VersionNotFoundError(f"there is no {asset} in {self.url}; `bid-assets run` makes one")
            return heads[max(heads)]
        window, name = resolve(self._versions, asset, version)
        return self._versions.manifest(asset, window, name)

    def _dataset_of(self, model: Manifest) -> InputRef:
        dataset = next((ref for ref in model.inputs if ref.asset == _DATASET), None)
        if dataset is None:
            raise VersionNotFoundError(f"{model.version} names no training dataset")
        return dataset

    def _manifest(self, asset: str, ref: InputRef) -> Manifest:
        return self._versions.manifest(asset, ref.partition, ref.version)


def load_model(version: str = ACTIVE) -> Model:
    """A model of the settings' store; see `Store.load_model`."""
    return Store().load_model(version)


def load_dataset(version: str = NEWEST, columns: Sequence[str] | None = None) -> pa.Table:
    """A training dataset of the settings' store; see `Store.load_dataset`."""
    return Store().load_dataset(version, columns)


def _version(manifest: Manifest) -> Version:
    return Version(
        asset=manifest.asset,
        window=manifest.partition,
        version=manifest.version,
        created_at=manifest.created_at,
        rows=manifest.rows,
        cutoff=manifest.cutoff,
        inputs=tuple((ref.asset, ref.partition, ref.version) for ref in manifest.inputs),
        info=dict(manifest.info),
    )
