"""The history component of the blend: a logistic regression on the profile's history, as a scikit-learn pipeline.

Trees cut a slope into steps, and need many bids for each; a linear model needs few. Numbers are transformed first
(signed log1p): the tenth bid of a profile says less than the second. Why history alone, and the results, are in
docs/research-log/. Where something else than history decides, it would only dilute the trees: `blend` decides how much
it counts. Imports scikit-learn: import it only where a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import validate_data
from threadpoolctl import threadpool_limits

from bid_assets.common.arrow import FloatArray
from bid_assets.features.registry import families
from bid_assets.modelling.dataset.assemble import FAMILY_OF, feature_columns
from bid_assets.modelling.estimators.base import stratified_subsample
from bid_assets.modelling.estimators.column_encoders import Matrix
from bid_assets.modelling.estimators.linear_logit import LinearLogit, signed_log1p
from bid_assets.modelling.evaluation.metrics import Labels

PENALTY = 10.0
"""On the squares of the weights of standardised numbers; the intercept is free."""

MAX_ROWS = 200_000
"""More rows are subsampled, stratified by outcome: some dozens of weights need no more."""


class ClippedSignedLog1p(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """sign(x) * log(1 + |x|) of each number, clipped to its range in training widened by `margin` times its length.

    NaN stays. A number of a column that had none in training is 0.
    """

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = margin

    def fit(self, X: Matrix, y: object = None) -> ClippedSignedLog1p:
        """Learn the ranges."""
        numbers = signed_log1p(validate_data(self, X, dtype="numeric", ensure_all_finite="allow-nan"))
        low, high = (np.nan_to_num(limit(numbers, axis=0)) for limit in (np.fmin.reduce, np.fmax.reduce))
        self.clip_min_, self.clip_max_ = low - self.margin * (high - low), high + self.margin * (high - low)
        return self

    def transform(self, X: Matrix) -> FloatArray:
        """The transformed numbers, shape (rows, columns)."""
        X = validate_data(self, X, dtype="numeric", ensure_all_finite="allow-nan", reset=False)
        return np.asarray(np.clip(signed_log1p(X), self.clip_min_, self.clip_max_))

    def __sklearn_tags__(self) -> object:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def history_regression() -> Pipeline:
    """The unfitted pipeline. A missing number counts as the median, and that it is missing is a yes/no number of its own."""
    return Pipeline(
        [
            ("log", ClippedSignedLog1p()),
            ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
            ("scale", StandardScaler()),
            ("regression", LogisticRegression(C=1 / PENALTY, solver="newton-cholesky", tol=1e-9, max_iter=1000)),
        ]
    )


def fit_history_regression(regression: Pipeline, numbers: Matrix, success: Labels) -> Pipeline:
    """The pipeline fitted to the rows, at most `MAX_ROWS`; both classes must occur.

    One thread, so that the same rows give the same bits on any machine of a kind.
    """
    rows = stratified_subsample(success, MAX_ROWS)
    with threadpool_limits(1):
        return regression.fit(numbers[rows], success[rows])


def compile_history(pipeline: Pipeline, columns: Sequence[int]) -> LinearLogit:
    """A fitted pipeline as one linear function of `columns` of the model's matrix."""
    log, impute, scale, regression = (step for _, step in pipeline.steps)
    slopes, shifts = regression.coef_[0] / scale.scale_, scale.mean_
    count, missing = len(columns), np.zeros(len(columns))
    offsets = -slopes[:count] * shifts[:count]
    with_indicator = impute.indicator_.features_
    missing[with_indicator] = slopes[count:]
    offsets[with_indicator] -= slopes[count:] * shifts[count:]
    return LinearLogit(
        columns=np.array(columns, dtype=np.int64),
        slopes=slopes[:count],
        offsets=offsets,
        missing_terms=slopes[:count] * impute.statistics_ + missing + offsets,
        clip_min=log.clip_min_,
        clip_max=log.clip_max_,
        intercept=float(regression.intercept_[0]),
    )


def history_columns(dataset: pa.Table) -> list[str]:
    """The feature columns of the profile's history; none where the fields do not say their family."""
    history = {family.name.encode() for family in families() if family.is_profile_history}
    return [name for name in feature_columns(dataset) if (dataset.schema.field(name).metadata or {}).get(FAMILY_OF) in history]
