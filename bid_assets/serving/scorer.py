"""A model that may serve: its checksum verified, its columns known to the families, and one canned prediction made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bid_assets.features.families import families
from bid_assets.modelling import preprocess
from bid_assets.modelling.model import BASE, BidSuccessModel
from bid_assets.versions.manifest import InputRef, Manifest
from bid_assets.versions.store import VersionStore


class Unusable(Exception):
    """A model whose file is intact cannot serve here; the message says why."""


@dataclass(frozen=True)
class Contribution:
    """What one feature added to the log-odds of a prediction."""

    feature: str
    value: Any
    """Of the feature as the model saw it; None: missing."""
    log_odds: float


@dataclass(frozen=True)
class Scorer:
    """One version of a model, ready to score."""

    manifest: Manifest
    dataset_version: str
    model: BidSuccessModel

    @classmethod
    def load(cls, store: VersionStore, ref: InputRef, encoder_fingerprint: str | None = None) -> Scorer:
        """Fetch, verify, unpickle and try. Raises `VersionNotFound`, `CorruptVersion`, `Unusable`."""
        manifest = store.manifest(ref.asset, ref.partition, ref.version)
        path = store.fetch(manifest)  # verifies the checksum: nothing else is ever unpickled
        try:
            model = joblib.load(path)
        except Exception as error:  # whatever a pickle of another version of the code may raise
            raise Unusable(f"{ref.version} cannot be loaded by this version of the code: {error!r}") from None
        if not isinstance(model, BidSuccessModel):
            raise Unusable(f"{ref.version} holds a {type(model).__name__}, not a model")
        dataset = next((item.version for item in manifest.inputs if item.asset == "training_dataset"), "unknown")
        made = cls(manifest, dataset, model)
        made._refuse_unknown_columns()
        theirs = model.encoder_fingerprint
        if encoder_fingerprint is not None and theirs is not None and theirs != encoder_fingerprint:
            raise Unusable(
                f"{ref.version} reads texts by the encoder {theirs[:12]}, this service has {encoder_fingerprint[:12]}"
            )
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

    def matrix(self, table: pa.Table) -> preprocess.Matrix:
        """The numbers that the model sees of a table of features."""
        return preprocess.encode(table, self.model.encodings)

    def matrix_of(self, rows: Sequence[Mapping[str, Any]]) -> preprocess.Matrix:
        """The same of plain values by column. Raises `WrongColumns`."""
        return preprocess.encode_rows(rows, self.model.encodings)

    def probabilities(self, matrix: preprocess.Matrix) -> npt.NDArray[np.float64]:
        """Probability of success of each row."""
        return self.model.probability_of(matrix)

    def contributions(self, table: pa.Table) -> list[tuple[float, list[Contribution]]]:
        """Of each row: the log-odds before any feature is looked at, and what each feature added, the largest first."""
        names, parts = self.model.contributions(table)
        matrix = self.matrix(table)
        assert names[-1] == BASE
        told = []
        for row, values in zip(parts, matrix, strict=True):
            order = np.argsort(-np.abs(row[:-1]), kind="stable")
            found = [
                Contribution(names[n], None if np.isnan(values[n]) else float(values[n]), float(row[n]))
                for n in order
                if row[n]
            ]
            told.append((float(row[-1]), found))
        return told

    def _refuse_unknown_columns(self) -> None:
        known = {feature.name for family in families() for feature in family.features}
        unknown = [name for name in self.model.feature_schema.names if name not in known]
        if unknown:
            raise Unusable(f"{self.version} wants features that this code does not have: {', '.join(unknown)}")

    def _try(self) -> None:
        """A bid of which nothing is known must get a probability, and the same one twice."""
        nothing = self.matrix_of([{}])
        first, second = (float(self.probabilities(nothing)[0]) for _ in range(2))
        if not (0 <= first <= 1 and first == second):
            raise Unusable(f"{self.version} says {first} and then {second} of a bid of which nothing is known")
