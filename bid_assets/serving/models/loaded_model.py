"""A model loaded for serving: checksum verified, columns and encoder compared with this code's, smoke test passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bid_assets.features.embeddings.model_files import EncoderUnavailableError
from bid_assets.features.registry import families
from bid_assets.modelling.estimators import column_encoders
from bid_assets.modelling.evaluation.former_keys import with_current_keys
from bid_assets.modelling.model import EMPTY_ROW_PROBABILITY, BidSuccessModel
from bid_assets.modelling.model_file import ModelFormatError, load
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.store import VersionStore

_TOLERANCE = 1e-6


class ModelRejectedError(Exception):
    """A model whose file is intact cannot serve with this code or encoder; the message says why."""


@dataclass(frozen=True)
class LoadedModel:
    """One version of a model, verified and ready to score."""

    manifest: Manifest
    dataset_version: str
    scorer: BidSuccessModel

    @classmethod
    def load(cls, store: VersionStore, ref: InputRef, encoder_fingerprint: Callable[[], str] | None = None) -> LoadedModel:
        """Fetch, verify and load a version. Raises `VersionNotFoundError`, `CorruptVersionError`, `ModelRejectedError`.

        `encoder_fingerprint`: that of this service's encoder, called only for a model that reads embeddings; it may raise
        `EncoderUnavailableError`.
        """
        manifest = store.manifest(ref.asset, ref.partition, ref.version)
        path = store.fetch(manifest)  # verifies the checksum: nothing else is ever opened
        try:
            scorer = load(path)
        except ModelFormatError as error:
            raise ModelRejectedError(f"{ref.version} cannot be loaded by this version of the code: {error}") from None
        dataset = next((item.version for item in manifest.inputs if item.asset == "training_dataset"), "unknown")
        loaded = cls(manifest, dataset, scorer)
        loaded._require_known_columns()
        if encoder_fingerprint is not None:
            loaded._require_same_encoder(encoder_fingerprint)
        loaded._smoke_test()
        return loaded

    @property
    def version(self) -> str:
        """The model's version."""
        return self.manifest.version

    @property
    def threshold(self) -> float:
        """The decision is to bid from this probability on."""
        return self.scorer.threshold

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> column_encoders.Matrix:
        """Encode plain values by column as the model's input matrix. Raises `ColumnMismatchError`."""
        return self.scorer.encode_rows(rows)

    def probabilities(self, matrix: column_encoders.Matrix) -> npt.NDArray[np.float64]:
        """Probability of success of each row of the model's input matrix."""
        return self.scorer.predict_matrix(matrix)

    def _require_known_columns(self) -> None:
        known = {column_encoders.PROFILE_COLUMN, *(feature.name for family in families() for feature in family.features)}
        unknown = [name for name in self.scorer.feature_schema.names if name not in known]
        if unknown:
            raise ModelRejectedError(f"{self.version} needs features that this code does not have: {', '.join(unknown)}")

    def _require_same_encoder(self, encoder_fingerprint: Callable[[], str]) -> None:
        expected = self.scorer.encoder_fingerprint if self.scorer.reads_embeddings else None
        if expected is None:
            return
        try:
            actual = encoder_fingerprint()
        except EncoderUnavailableError as error:
            raise ModelRejectedError(f"{self.version} reads embeddings: {error}") from None
        if expected != actual:
            raise ModelRejectedError(
                f"{self.version} reads texts by the encoder {expected[:12]}, this service has {actual[:12]}"
            )

    def _smoke_test(self) -> None:
        """Predict an empty row: the probability must be the one that was recorded when the model was trained."""
        expected = with_current_keys(self.manifest.info).get(EMPTY_ROW_PROBABILITY)
        actual = self.scorer.empty_row_probability()
        if not 0 <= actual <= 1 or (expected is not None and abs(actual - expected) > _TOLERANCE):
            raise ModelRejectedError(
                f"{self.version} gives an empty row the probability {actual}; when it was trained, it gave {expected}"
            )
