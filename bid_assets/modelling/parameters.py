"""What can be said about a training run: hyperparameters and what counts as enough data. No learning library here.

How the defaults were found is in docs/concepts/model.md: by backtests at earlier cutoffs, never on the data that
the published results are about.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

_RANGES: dict[str, tuple[float, float]] = {
    "max_rounds": (1, 100_000),
    "early_stopping_rounds": (1, 100_000),
    "learning_rate": (1e-6, 1),
    "max_depth": (1, 32),
    "min_child_weight": (0, 1e9),
    "subsample": (0.01, 1),
    "colsample_bytree": (0.01, 1),
    "l2": (0, 1e9),
    "max_linear_weight": (0, 1),
    "max_words_weight": (0, 10),
    "vocabulary_size": (0, 100_000),
    "validation_share": (0.01, 0.9),
    "min_labelled_bids": (2, 1e12),
    "min_per_class": (1, 1e12),
    "min_precision": (0, 1),
    "cost_per_bid": (0, 1e12),
    "gain_per_success": (0, 1e12),
    "seed": (0, 2**31 - 1),
}

THRESHOLD_OBJECTIVES = ("f1", "precision", "value")
CALIBRATIONS = ("none", "sigmoid", "isotonic")


class NotTrainableError(ValueError):
    """There is not enough data to train a model; the message says what is lacking."""


@dataclass(frozen=True)
class TrainingParameters:
    """Everything that decides what `train` makes of a dataset. Raises `ValueError` where a value is out of its range."""

    max_rounds: int = 1000
    """Most trees; early stopping decides how many are used."""
    early_stopping_rounds: int = 30
    """Rounds without a better log loss on the validation part after which no more trees are tried."""
    learning_rate: float = 0.06
    max_depth: int = 3
    min_child_weight: float = 5.0
    """Least sum of hessians in a leaf: about 5 / (p (1 - p)) bids."""
    subsample: float = 0.5
    colsample_bytree: float = 0.3
    """Share of the features that a tree is offered; every column of the dataset counts alike (see
    `gradient_boosting.column_weights`)."""
    l2: float = 10.0
    """Penalty on the squares of leaf weights (XGBoost's `lambda`)."""
    max_linear_weight: float = 0.7
    """Most that the history may have of the log-odds; forward blocks decide how much it has (see `estimators.blend`).
    0: the trees have all."""
    max_words_weight: float = 2.0
    """Most that is added of what texts say (see `text_logistic_regression`), times their log-odds; forward blocks
    decide how much. 0: no text counts."""
    embeddings_in_model: bool = False
    """Whether the text model reads the embeddings of the dataset beside its words."""
    vocabulary_size: int = 32
    """Most frequent values learnt of each text or list column."""
    excluded_features: str = "month,job_words"
    """Columns of the dataset that no model learns from, with commas between; `profile_rating` leaves out the ratings
    (see `target_statistics`). In a look-back of less than two years a month tells of no season, only of how young a
    bid's label is, and of young bids mostly successes are known; words of a job learn its base rate."""
    validation_share: float = 0.45
    """Share of the training bids, the newest, in the forward blocks that choose rounds, weights and threshold."""
    calibration: str = "none"
    """`sigmoid` or `isotonic`: fitted to forward blocks, and taken only where it wins on later ones."""
    min_labelled_bids: int = 200
    min_per_class: int = 10
    """Fewest bids of either class in training and in holdout, and in a forward block."""
    threshold_objective: str = "f1"
    """What the threshold maximizes; see `threshold.choose_threshold`."""
    min_precision: float = 0.5
    """Of the bids called successes, the least share that shall be; for the objective `precision`."""
    cost_per_bid: float = 1.0
    gain_per_success: float = 10.0
    """What a bid costs and what a success brings, in one currency; for the objective `value`."""
    refit_on_holdout: bool = False
    """Whether the model that is served learns from the bids of the holdout too, after the evaluation on them."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.threshold_objective not in THRESHOLD_OBJECTIVES:
            raise ValueError(
                f"threshold_objective must be one of {', '.join(THRESHOLD_OBJECTIVES)}, not {self.threshold_objective!r}"
            )
        if self.calibration not in CALIBRATIONS:
            raise ValueError(f"calibration must be one of {', '.join(CALIBRATIONS)}, not {self.calibration!r}")
        for name, (low, high) in _RANGES.items():
            value: Any = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low:g} and {high:g}, not {value!r}")

    @property
    def excluded(self) -> frozenset[str]:
        """The names in `excluded_features`."""
        return frozenset(name.strip() for name in self.excluded_features.split(",") if name.strip())

    def as_dict(self) -> dict[str, int | float | str]:
        """The parameters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
