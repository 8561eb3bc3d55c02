"""Tree ensemble in NumPy: scores a few rows in microseconds, with XGBoost's results bit for bit.

XGBoost itself spends ten times as long on preparing one row as on walking it through the trees; for many rows it is quicker.
Numbers only: no categorical splits, one output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import orjson

if TYPE_CHECKING:
    import xgboost as xgb

MAX_ROWS = 8
"""Up to so many rows are scored here rather than by XGBoost."""
_CHECK_ROWS = 64
"""Rows on which the ensemble is checked against XGBoost when it is built."""


@dataclass(frozen=True, eq=False)
class NumpyTreeEnsemble:
    """All nodes of all trees in a row. A leaf leads to itself, so all trees are walked to the depth of the deepest."""

    base_score: np.float32
    """Log-odds before any tree."""
    depth: int
    num_features: int
    roots: npt.NDArray[np.int64]
    split_features: npt.NDArray[np.int64]
    split_conditions: npt.NDArray[np.float32]
    """The threshold that a feature must be less than to go left; of a leaf: its value."""
    default_left: npt.NDArray[np.bool_]
    left_children: npt.NDArray[np.int64]
    right_children: npt.NDArray[np.int64]

    @classmethod
    def from_booster(cls, booster: xgb.Booster) -> NumpyTreeEnsemble:
        """The trees of a booster with one output in log-odds. Raises `ValueError` for one with categorical splits."""
        learner = orjson.loads(bytes(booster.save_raw("json")))["learner"]
        trees = learner["gradient_booster"]["model"]["trees"]
        if any(any(tree["split_type"]) for tree in trees):
            raise ValueError("a booster with categorical splits cannot be scored as plain trees")
        start = np.cumsum([0, *(len(tree["left_children"]) for tree in trees)])
        left, right = (
            np.concatenate([_absolute_children(np.array(tree[side]), int(at)) for tree, at in zip(trees, start, strict=False)])
            for side in ("left_children", "right_children")
        )
        base = np.float32(learner["learner_model_param"]["base_score"].strip("[]"))
        ensemble = cls(
            base_score=np.float32(-math.log(1 / base - 1)),
            depth=_depth(start[:-1], left, right),
            num_features=booster.num_features(),
            roots=start[:-1],
            split_features=np.concatenate([tree["split_indices"] for tree in trees]),
            split_conditions=np.concatenate([np.array(tree["split_conditions"], dtype=np.float32) for tree in trees]),
            default_left=np.concatenate([np.array(tree["default_left"], dtype=bool) for tree in trees]),
            left_children=left,
            right_children=right,
        )
        return ensemble._calibrate_base_score(booster)

    def log_odds(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The margin of each row, shape (rows,); NaN is missing."""
        return np.array([self._row_log_odds(row) for row in matrix], dtype=np.float32)

    @cached_property
    def _feature_index(self) -> npt.NDArray[np.int64]:
        """The index that each node reads in a row and its copy: missing values are -inf in the first and +inf in the second."""
        return np.where(self.default_left, self.split_features, self.split_features + self.num_features)

    def _calibrate_base_score(self, booster: xgb.Booster) -> NumpyTreeEnsemble:
        """The ensemble with the base score that gives XGBoost's exact results: its logarithm is that of the C library
        it was built with."""
        rows = self._check_rows()
        expected = booster.inplace_predict(rows, predict_type="margin", missing=np.nan)
        for base_score in (self.base_score, *(np.nextafter(self.base_score, np.float32(way)) for way in (-np.inf, np.inf))):
            candidate = replace(self, base_score=base_score)
            if np.array_equal(candidate.log_odds(rows), expected):
                return candidate
        raise ValueError(
            f"XGBoost gives {expected[0]} for a row without values, and the NumPy trees give {self.log_odds(rows)[0]}"
        )

    def _check_rows(self) -> npt.NDArray[np.float32]:
        """A row without values, and rows of values at which trees split: one row's sum may be the same with two bases."""
        chance, rows = np.random.default_rng(0), np.full((_CHECK_ROWS, self.num_features), np.nan, dtype=np.float32)
        inner = self.left_children != np.arange(len(self.left_children))
        for feature in np.unique(self.split_features[inner]):
            rows[1:, feature] = chance.choice(self.split_conditions[inner & (self.split_features == feature)], _CHECK_ROWS - 1)
        return rows

    def _row_log_odds(self, row: npt.NDArray[np.float32]) -> np.float32:
        node = self.roots
        missing = row != row
        values = np.concatenate(
            [np.where(missing, -np.inf, row), np.where(missing, np.inf, row)]
        )  # missing: left always, or right
        for _ in range(self.depth):
            goes_left = values.take(self._feature_index.take(node)) < self.split_conditions.take(node)
            node = np.where(goes_left, self.left_children.take(node), self.right_children.take(node))
        terms = np.empty(len(node) + 1, dtype=np.float32)
        terms[0], terms[1:] = self.base_score, self.split_conditions[node]
        return np.float32(np.add.accumulate(terms)[-1])  # one after the other, as XGBoost adds them


def _absolute_children(children: npt.NDArray[np.int64], start: int) -> npt.NDArray[np.int64]:
    """Children by their index among all nodes; a leaf is its own child."""
    return np.where(children < 0, np.arange(len(children)), children) + start


def _depth(roots: npt.NDArray[np.int64], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> int:
    depth, nodes = 0, roots
    while True:
        nodes = nodes[left[nodes] != nodes]
        if not len(nodes):
            return depth
        depth, nodes = depth + 1, np.concatenate([left[nodes], right[nodes]])
