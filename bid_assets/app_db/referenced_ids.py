"""Which jobs and profiles the bids of each window reference, collected while the bids are read. Pure Arrow and numpy.

With this the database need not search the bids for them again, and sends each of their rows once for many windows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_BIDS, TEXT, TIME
from bid_assets.common.arrow import microseconds, window_starts
from bid_assets.common.windows import Cadence, TimeRange

REFERENCE_SCHEMA = pa.schema([RAW_BIDS.field(name) for name in ("profile_id", "job_id", "submitted_at")])
"""The columns of a bid that `ReferencedIds.add` needs."""

_REFERENCES = ("job_id", "profile_id")


class ReferencedIds:
    """The distinct pairs of window and referenced id of ranges of bids. A pair takes twelve bytes and a share of the id."""

    def __init__(self, cadence: Cadence) -> None:
        self._cadence = cadence
        self._pairs: dict[TimeRange, dict[str, pa.Table]] = {}

    def __contains__(self, span: TimeRange) -> bool:
        """Whether exactly this range has been added."""
        return span in self._pairs

    def add(self, span: TimeRange, bids: pa.Table) -> None:
        """Add the references of `bids`, which are all valid bids of `span`."""
        windows = pa.array(window_starts(microseconds(bids["submitted_at"]), self._cadence.length), TIME)
        self._pairs[span] = {
            column: _encoded(_distinct(pa.table({"window": windows, "id": bids[column]}))) for column in _REFERENCES
        }

    def in_range(self, span: TimeRange, column: str, spans: Iterable[TimeRange]) -> pa.Table:
        """Each `window` of `span` beside each `id` that its bids reference in `column`. `spans`: added ranges that make it up.

        The ids are one dictionary, which holds no others.
        """
        # those that only touch do no harm, and with them even an empty span has one
        parts = [self._pairs[part][column] for part in spans if part.start <= span.end and span.start <= part.end]
        pairs = pa.concat_tables(parts)
        inside = pc.and_(
            pc.greater_equal(pairs["window"], pa.scalar(self._cadence.floor(span.start), TIME)),
            pc.less(pairs["window"], pa.scalar(span.end, TIME)),
        )
        pairs = pairs.filter(inside)
        return _encoded(_distinct(pairs.set_column(1, "id", pairs["id"].cast(TEXT))))


def match_rows(pairs: pa.Table, rows: pa.Table) -> tuple[pa.Array, pa.Array]:
    """For each of `pairs` that has a row, by window and row: its window, and the index of its row in `rows`.

    `rows["at"]` says which of the dictionary's ids a row is of, counted from one.
    """
    ids = pairs["id"].combine_chunks()
    row_of_id = np.full(len(ids.dictionary), -1)
    row_of_id[rows["at"].to_numpy() - 1] = np.arange(rows.num_rows)
    indices = row_of_id[ids.indices.to_numpy()]
    order = np.lexsort((indices, pairs["window"].to_numpy()))
    order = order[indices[order] >= 0]
    return pairs["window"].combine_chunks().take(pa.array(order)), pa.array(indices[order])


def _distinct(pairs: pa.Table) -> pa.Table:
    return pairs.group_by(["window", "id"], use_threads=False).aggregate([])


def _encoded(pairs: pa.Table) -> pa.Table:
    return pairs.set_column(1, "id", pairs["id"].combine_chunks().dictionary_encode())
