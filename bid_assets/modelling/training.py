"""From a training dataset to a model. Imports XGBoost: import this module only where a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from bid_assets.modelling.classifier import BidSuccessClassifier
from bid_assets.modelling.dataset.assemble import labels, rows_in_split
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.parameters import NotTrainableError, TrainingParameters
from bid_assets.version_store.parquet import WindowedTable

Dataset: TypeAlias = pa.Table | WindowedTable


def train(dataset: Dataset, parameters: TrainingParameters, encoder_fingerprint: str | None = None) -> BidSuccessModel:
    """A `BidSuccessClassifier` fitted to the dataset's `train` rows and compiled.

    The same dataset and parameters give the same `content_hash`. A stored dataset is read column by column, as far as
    it is needed. With `refit_on_holdout` the model is refitted to training, embargo and holdout rows; immature bids stay
    out, since of them mostly the successes are known. Raises `NotTrainableError` where there are too few outcomes, or
    only one class.
    """
    refuse_untrainable(_select(dataset, ["split", "target_is_success"]), parameters)
    rows = _PartsOfSplit(dataset, ("train",))
    classifier = BidSuccessClassifier(**parameters.as_dict()).fit(rows, rows.labels())
    model = classifier.compile(encoder_fingerprint)
    if not parameters.refit_on_holdout:
        return model
    more = _PartsOfSplit(dataset, ("train", "embargo", "holdout"))
    return replace(classifier.refit(more, more.labels()).compile(encoder_fingerprint), holdout_model=model)


def refuse_untrainable(dataset: pa.Table, parameters: TrainingParameters) -> None:
    """Raise `NotTrainableError` unless there are enough labelled bids, and enough of both classes in training and in holdout.

    A dataset without holdout is not checked for one.
    """
    if not dataset.num_rows:
        raise NotTrainableError("the dataset has no labelled bid: no outcome of its bids was known at the cutoff")
    if dataset.num_rows < parameters.min_labelled_bids:
        raise NotTrainableError(
            f"{dataset.num_rows} labelled bids; at least {parameters.min_labelled_bids} are required (min_labelled_bids)"
        )
    split, success = dataset["split"].to_numpy(), labels(dataset)
    has_holdout = np.isin(split, ("holdout", "immature")).any()
    immature = int((split == "immature").sum())
    left_out = f"; {immature} are younger than the label maturity (label_maturity_days)" if immature else ""
    for name in ("train", "holdout") if has_holdout else ("train",):
        successes, failures = (int((part & (split == name)).sum()) for part in (success, ~success))
        if min(successes, failures) < parameters.min_per_class:
            raise NotTrainableError(
                f"the {name} part has {successes} successes and {failures} failures; "
                f"at least {parameters.min_per_class} of each are required (min_per_class){left_out}"
            )


@dataclass(frozen=True, eq=False)
class _PartsOfSplit:
    """The rows of some parts of a dataset's split; columns are read when they are selected."""

    dataset: Dataset
    parts: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        return self.dataset.stored_schema if isinstance(self.dataset, WindowedTable) else self.dataset.schema

    def select(self, names: Sequence[str]) -> pa.Table:
        return rows_in_split(_select(self.dataset, [*names, "split"]), *self.parts).select(names)

    def labels(self) -> np.ndarray:
        return labels(self.select(["target_is_success"]))


def _select(dataset: Dataset, names: list[str]) -> pa.Table:
    return dataset.read(names) if isinstance(dataset, WindowedTable) else dataset.select(names)
