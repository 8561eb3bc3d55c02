"""The truth of a simulated market: a file that no asset reads, for setting a model beside the best that is possible."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bid_assets.simulation.options import MarketplaceOptions

TRUTH_FILE = "truth.parquet"
_OPTIONS = b"marketplace_options"
_STORED_NAMES = {"corruption_share": "dirt"}
"""Options that a file calls otherwise than the code."""


def write_truth(truth: pa.Table, options: MarketplaceOptions, path: Path) -> None:
    """Write the truth, and the options with which the market was created: they make it again, and make what comes after."""
    values = asdict(options) | {"end": options.end.isoformat()}
    options_json = json.dumps({_STORED_NAMES.get(name, name): value for name, value in values.items()})
    pq.write_table(truth.replace_schema_metadata({_OPTIONS: options_json}), path, compression="zstd")


def replace_truth(truth: pa.Table, options: MarketplaceOptions, folder: Path) -> None:
    """Write the truth in place of the folder's: a reader, and a machine that comes back, finds the old one or the new one."""
    partial = folder / f"{TRUTH_FILE}.partial"
    write_truth(truth, options, partial)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(folder / TRUTH_FILE)


def read_truth(folder: Path) -> pa.Table:
    """The truth that was written into this folder; schema `weeks.TRUTH`. Raises `FileNotFoundError` where there is none."""
    path = folder / TRUTH_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no simulated market was written here; `bid-assets marketplace create` makes one")
    return pq.read_table(path)


def options_of(truth: pa.Table) -> MarketplaceOptions:
    """The options of the market that this truth is about."""
    stored = json.loads(truth.schema.metadata[_OPTIONS])
    names = {stored_name: name for name, stored_name in _STORED_NAMES.items()}
    values = {names.get(name, name): value for name, value in stored.items()}
    return MarketplaceOptions(**(values | {"end": datetime.fromisoformat(values["end"])}))


def best_possible(
    truth: pa.Table, bid_ids: pa.Array | pa.ChunkedArray, labels: pa.Array | pa.ChunkedArray
) -> dict[str, float | None]:
    """What the true probabilities themselves score on these bids: `roc_auc` (None where all labels are equal) and `log_loss`.

    No model does better on a fair sample, but for luck. Bids that were decided early are no fair sample, since successes become
    known sooner: on them the probabilities are too low, though their order is still the best. Raises `ValueError` for no bids,
    and for bids that are not of this market.
    """
    row = pc.index_in(bid_ids, value_set=truth["bid_id"])
    if not len(row) or row.null_count:
        unknown = bid_ids.filter(pc.is_null(row))
        example = f", such as {unknown[0]}" if len(unknown) else ""
        raise ValueError(f"{len(unknown)} of {len(row)} bids are not of this simulated market{example}")
    probability = truth["true_probability"].take(row).to_numpy()
    label = np.asarray(labels, dtype=np.bool_)
    clipped = probability.clip(1e-6, 1 - 1e-6)
    log_loss = -np.mean(np.where(label, np.log(clipped), np.log1p(-clipped)))
    return {"roc_auc": _roc_auc(probability, label), "log_loss": float(log_loss)}


def _roc_auc(score: np.ndarray, label: np.ndarray) -> float | None:
    """The chance that a success scores above a failure, ties counting half (Mann and Whitney 1947)."""
    positives = int(label.sum())
    if positives in (0, len(label)):
        return None
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((rank[label].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))
