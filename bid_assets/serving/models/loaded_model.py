"""A model that may serve: its checksum verified, its columns known to the families, and one canned prediction made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.features.embeddings.model_files import EncoderUnavailable
from bid_assets.features.registry import families
from bid_assets.modelling.estimators import column_encoders
from bid_assets.modelling.model import PROBABILITY_OF_NOTHING, BidSuccessModel
from bid_assets.modelling.model_file import ModelFormatError, load
from bid_assets.version_store.manifest import InputRef, Manifest
from bid_assets.version_store.store import VersionStore

_TOLERANCE = 1e-6


class Unusable(Exception):
    """A model whose file is intact cannot serve here; the message says why."""


@dataclass(frozen=True)
class Scorer:
    """One version of a model, ready to score."""

    manifest: Manifest
    dataset_version: str
    model: BidSuccessModel

    @classmethod
    def load(cls, store: VersionStore, ref: InputRef, encoder_fingerprint: Callable[[], str] | None = None) -> Scorer:
        """Fetch, verify, load and try. Raises `VersionNotFoundError`, `CorruptVersionError`, `Unusable`.

        `encoder_fingerprint`: of the encoder here, called only for a model that reads embeddings; it may raise `EncoderUnavailable`.
        """
        manifest = store.manifest(ref.asset, ref.partition, ref.version)
        path = store.fetch(manifest)  # verifies the checksum: nothing else is ever opened
        try:
            model = load(path)
        except ModelFormatError as error:
            raise Unusable(f"{ref.version} cannot be loaded by this version of the code: {error}") from None
        dataset = next((item.version for item in manifest.inputs if item.asset == "training_dataset"), "unknown")
        made = cls(manifest, dataset, model)
        made._refuse_unknown_columns()
        if encoder_fingerprint is not None:
            made._refuse_other_encoder(encoder_fingerprint)
        made._try()
        return made

    @property
    def version(self) -> str:
        """The model's version."""
        return self.manifest.version

    @property
    def threshold(self) -> float:
        """From this probability on the decision is to bid."""
        return self.model.threshold

    def matrix(self, table: pa.Table) -> column_encoders.Matrix:
        """The numbers that the model sees of a table of features."""
        return column_encoders.encode(table, self.model.encodings)

    def matrix_of(self, rows: Sequence[Mapping[str, Any]]) -> column_encoders.Matrix:
        """The same of plain values by column, which is quicker for few rows. Raises `WrongColumns`."""
        return self.model.matrix_of(rows)

    def probabilities(self, matrix: column_encoders.Matrix) -> npt.NDArray[np.float64]:
        """Probability of success of each row."""
        return self.model.probability_of(matrix)

    def _refuse_unknown_columns(self) -> None:
        known = {column_encoders.PROFILE, *(feature.name for family in families() for feature in family.features)}
        unknown = [name for name in self.model.feature_schema.names if name not in known]
        if unknown:
            raise Unusable(f"{self.version} wants features that this code does not have: {', '.join(unknown)}")

    def _refuse_other_encoder(self, encoder_fingerprint: Callable[[], str]) -> None:
        theirs = self.model.encoder_fingerprint if self.model.reads_embeddings else None
        if theirs is None:
            return
        try:
            ours = encoder_fingerprint()
        except EncoderUnavailable as error:
            raise Unusable(f"{self.version} reads embeddings: {error}") from None
        if theirs != ours:
            raise Unusable(f"{self.version} reads texts by the encoder {theirs[:12]}, this service has {ours[:12]}")

    def _try(self) -> None:
        """A canned prediction: a bid of which nothing is known must get the probability that it got when the model was made."""
        expected, found = self.manifest.info.get(PROBABILITY_OF_NOTHING), self.model.probability_of_nothing()
        if not 0 <= found <= 1 or (expected is not None and abs(found - expected) > _TOLERANCE):
            raise Unusable(
                f"{self.version} gives {found} to a bid of which nothing is known; when it was made, it gave {expected}"
            )
