"""Metrics by slice of the holdout: new profiles, agencies, small amounts, ... Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.bootstrap import METRICS, intervals
from bid_assets.modelling.evaluation.metrics import Labels, Probabilities

Values = npt.NDArray[np.object_]

MISSING = "missing"
MIN_PER_CLASS = 10
"""A slice with fewer successes or failures than this is marked as too small to say anything."""
MAX_CATEGORIES = 12
"""So many values of a column are shown; the rarer ones are one slice, `other`."""
_RESAMPLES = 300

_COLUMNS = {"profile type": "profile_type", "experience level": "experience_level", "job category": "job_category"}


def slice_metrics(
    holdout: pa.Table, success: Labels, probability: Probabilities, known_profiles: pa.Array, rarer_is_success: bool
) -> list[dict[str, Any]]:
    """The metrics, with intervals, for each slice of the holdout, JSON-able; the small ones marked, not hidden.

    Keys: `slice` (what it is by), `value`, `rows`, `profiles`, `successes`, `failures`, `too_small`, the metrics of
    `bootstrap.METRICS`, `intervals`.
    """
    profiles = _objects(holdout["profile_id"])
    results = []
    for name, values in slice_columns(holdout, known_profiles).items():
        for value, chosen in _parts(values):
            of_slice = {
                **metrics.ranking_metrics(success[chosen], probability[chosen], rarer_is_success),
                **metrics.probability_metrics(success[chosen], probability[chosen]),
            }
            results.append(
                {
                    "slice": name,
                    "value": value,
                    **slice_size(success[chosen], profiles[chosen]),
                    **{metric: of_slice[metric] for metric in METRICS},
                    "intervals": intervals(
                        success[chosen], probability[chosen], profiles[chosen], rarer_is_success, resamples=_RESAMPLES
                    ),
                }
            )
    return results


def slice_columns(holdout: pa.Table, known_profiles: pa.Array) -> Mapping[str, Values]:
    """What the holdout is sliced by: for each kind of slice, the value of every row. Kinds without column are left out."""
    known = np.asarray(pc.is_in(holdout["profile_id"], value_set=known_profiles), dtype=bool)
    columns: dict[str, Values] = {"profile": np.where(known, "known", "new").astype(object)}
    for name, column in _COLUMNS.items():
        if column in holdout.column_names:
            columns[name] = _common(_objects(holdout[column].cast(pa.string()).fill_null(MISSING)))
    if "amount" in holdout.column_names:
        columns["amount"] = _quartiles(np.asarray(holdout["amount"].cast(pa.float64()), dtype=np.float64))
    columns["month"] = _objects(pc.strftime(holdout["submitted_at"], "%Y-%m"))
    return columns


def slice_size(success: Labels, profiles: Values) -> dict[str, Any]:
    """How much there is in a slice, and whether that is too little."""
    successes = int(success.sum())
    failures = len(success) - successes
    return {
        "rows": len(success),
        "profiles": len(np.unique(profiles.astype(str))),
        "successes": successes,
        "failures": failures,
        "too_small": min(successes, failures) < MIN_PER_CLASS,
    }


def _parts(values: Values) -> Iterator[tuple[str, Labels]]:
    for value in np.unique(values.astype(str)):
        yield str(value), np.asarray(values == value, dtype=bool)


def _common(values: Values) -> Values:
    names, counts = np.unique(values.astype(str), return_counts=True)
    if len(names) <= MAX_CATEGORIES:
        return values
    kept = {*names[np.argsort(-counts, kind="stable")[: MAX_CATEGORIES - 1]], MISSING}
    return np.array([value if value in kept else "other" for value in values], dtype=object)


def _quartiles(amounts: npt.NDArray[np.float64]) -> Values:
    """Each amount's quartile, named by its bounds; amounts that are missing are a slice of their own."""
    there = np.isfinite(amounts)
    named = np.full(len(amounts), MISSING, dtype=object)
    if there.any():
        edges = np.unique(np.quantile(amounts[there], [0, 0.25, 0.5, 0.75, 1]))
        names = [f"Q{n}: {low:g} to {high:g}" for n, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True), start=1)]
        names = names or [f"Q1: {edges[0]:g}"]
        named[there] = np.array(names, dtype=object)[np.searchsorted(edges[1:-1], amounts[there], side="left")]
    return named


def _objects(values: pa.ChunkedArray | pa.Array) -> Values:
    return np.asarray(
        values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy(), dtype=object
    )
