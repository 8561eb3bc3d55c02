"""A booster's trees as plain arrays, to score a few rows in microseconds: what XGBoost says, bit for bit.

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

FEW = 16
"""Up to so many rows are scored here."""
_TRIED = 64
"""Rows that must be scored as by XGBoost before anybody else's are."""


@dataclass(frozen=True, eq=False)
class PlainTrees:
    """All nodes of all trees in a row. A leaf leads to itself, so all trees are walked to the depth of the deepest."""

    base: np.float32
    """Log-odds before any tree."""
    depth: int
    features: int
    """Numbers in a row."""
    roots: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    condition: npt.NDArray[np.float32]
    """What a feature must be less than to go left; of a leaf: what it adds."""
    missing_left: npt.NDArray[np.bool_]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]

    @classmethod
    def of(cls, booster: xgb.Booster) -> PlainTrees:
        """The trees of a booster with one output in log-odds. Raises `ValueError` for one with categorical splits."""
        learner = orjson.loads(bytes(booster.save_raw("json")))["learner"]
        trees = learner["gradient_booster"]["model"]["trees"]
        if any(any(tree["split_type"]) for tree in trees):
            raise ValueError("a booster with categorical splits cannot be scored as plain trees")
        start = np.cumsum([0, *(len(tree["left_children"]) for tree in trees)])
        left, right = (
            np.concatenate([_leading(np.array(tree[side]), int(at)) for tree, at in zip(trees, start, strict=False)])
            for side in ("left_children", "right_children")
        )
        base = np.float32(learner["learner_model_param"]["base_score"].strip("[]"))
        made = cls(
            base=np.float32(-math.log(1 / base - 1)),
            depth=_depth(start[:-1], left, right),
            features=booster.num_features(),
            roots=start[:-1],
            feature=np.concatenate([tree["split_indices"] for tree in trees]),
            condition=np.concatenate([np.array(tree["split_conditions"], dtype=np.float32) for tree in trees]),
            missing_left=np.concatenate([np.array(tree["default_left"], dtype=bool) for tree in trees]),
            left=left,
            right=right,
        )
        return made._rounded_as(booster)

    def log_odds(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The margin of each row, shape (rows,); NaN is missing."""
        return np.array([self._of_row(row) for row in matrix], dtype=np.float32)

    @cached_property
    def _seen_feature(self) -> npt.NDArray[np.int64]:
        """Where each node looks in a row and its copy, of which the one has what is missing on the left and the other on the right."""
        return np.where(self.missing_left, self.feature, self.feature + self.features)

    def _rounded_as(self, booster: xgb.Booster) -> PlainTrees:
        """The same trees with the base that gives XGBoost's very numbers: its logarithm is that of the C library it was built with."""
        rows = self._tried_rows()
        wanted = booster.inplace_predict(rows, predict_type="margin", missing=np.nan)
        for base in (self.base, *(np.nextafter(self.base, np.float32(way)) for way in (-np.inf, np.inf))):
            tried = replace(self, base=base)
            if np.array_equal(tried.log_odds(rows), wanted):
                return tried
        raise ValueError(f"XGBoost says {wanted[0]} of a row without values, and its plain trees say {self.log_odds(rows)[0]}")

    def _tried_rows(self) -> npt.NDArray[np.float32]:
        """A row without values, and rows of values at which trees split: one row's sum may be the same with two bases."""
        chance, rows = np.random.default_rng(0), np.full((_TRIED, self.features), np.nan, dtype=np.float32)
        inner = self.left != np.arange(len(self.left))
        for feature in np.unique(self.feature[inner]):
            rows[1:, feature] = chance.choice(self.condition[inner & (self.feature == feature)], _TRIED - 1)
        return rows

    def _of_row(self, row: npt.NDArray[np.float32]) -> np.float32:
        node = self.roots
        missing = row != row
        seen = np.concatenate(
            [np.where(missing, -np.inf, row), np.where(missing, np.inf, row)]
        )  # missing: left always, or right
        for _ in range(self.depth):
            goes_left = seen.take(self._seen_feature.take(node)) < self.condition.take(node)
            node = np.where(goes_left, self.left.take(node), self.right.take(node))
        added = np.empty(len(node) + 1, dtype=np.float32)
        added[0], added[1:] = self.base, self.condition[node]
        return np.float32(np.add.accumulate(added)[-1])  # one after the other, as XGBoost adds them


def _leading(children: npt.NDArray[np.int64], start: int) -> npt.NDArray[np.int64]:
    """Children by their place among all nodes; a leaf's is its own."""
    return np.where(children < 0, np.arange(len(children)), children) + start


def _depth(roots: npt.NDArray[np.int64], left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> int:
    depth, nodes = 0, roots
    while True:
        nodes = nodes[left[nodes] != nodes]
        if not len(nodes):
            return depth
        depth, nodes = depth + 1, np.concatenate([left[nodes], right[nodes]])
