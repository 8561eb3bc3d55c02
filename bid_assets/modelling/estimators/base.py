"""What the classifiers of this package have in common. Imports scikit-learn: import it only where a model is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from bid_assets.common.arrow import FloatArray
from bid_assets.modelling.estimators.linear_logit import expit
from bid_assets.modelling.evaluation.metrics import Labels


class LogOddsClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of two classes that is made by its `decision_function`: log-odds of `classes_[1]`, shape (rows,)."""

    classes_: npt.NDArray[Any]
    threshold_ = 0.5
    """From this probability on `predict` says `classes_[1]`."""

    def predict_proba(self, X: Any) -> FloatArray:
        """The probability of either class, shape (rows, 2)."""
        second = self._probability(self.decision_function(X))
        return np.column_stack([1 - second, second])

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The class of each row."""
        positive = self.predict_proba(X)[:, 1] >= self.threshold_
        return np.asarray(self.classes_[positive.astype(int)])

    def _probability(self, log_odds: FloatArray) -> FloatArray:
        return expit(log_odds)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags


def binary_labels(y: Any) -> tuple[npt.NDArray[Any], Labels]:
    """The two classes, and whether each label is the second. Raises `ValueError` unless there are two."""
    check_classification_targets(y)
    classes, place = np.unique(y, return_inverse=True)
    if len(classes) > 2:
        raise ValueError(f"Only binary classification is supported. The type of the target is {type_of_target(y)}.")
    if len(classes) < 2:
        raise ValueError(f"two classes are needed to tell apart, and all labels are of one class: {classes}")
    return classes, np.asarray(place, dtype=bool)


def stratified_subsample(success: Labels, limit: int) -> npt.NDArray[np.int64]:
    """Ascending indices of at most about `limit` rows: every n-th of either class."""
    step = max(1, -(-len(success) // limit))
    return np.sort(np.concatenate([np.flatnonzero(label)[::step] for label in (success, ~success)]))
