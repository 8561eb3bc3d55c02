"""The as-of join: which row of profiles or jobs a bid sees, and the values of these rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.arrow import Integers, microseconds


def as_of_row_index(table: pa.Table, keys: pa.ChunkedArray, bids: pa.Table) -> Integers:
    """As-of join: for each bid the row index in `table` of its key, in the latest window at or before the bid; -1: none.

    Each window's rows were read for the bids of this window, so a range of windows gives what each window alone would.
    """
    ids = table["id"].combine_chunks().dictionary_encode()
    name, window = ids.indices.to_numpy(), microseconds(table["window"])
    bid_name = pc.fill_null(pc.index_in(keys, value_set=ids.dictionary), -1).to_numpy()
    starts = np.unique(window)
    # (key, window) as one number: the last row that is not past the bid's is the one, if it is of the same key
    place = name.astype(np.int64) * len(starts) + np.searchsorted(starts, window)
    order = np.argsort(place)
    bid_window = np.searchsorted(starts, microseconds(bids["submitted_at"]), side="right") - 1
    last = np.searchsorted(place[order], bid_name.astype(np.int64) * len(starts) + bid_window, side="right") - 1
    row = np.append(order, -1)[last]
    return np.where(np.append(name, -1)[row] == bid_name, row, -1)


def take_or_null(column: pa.ChunkedArray | pa.Array, row: Integers) -> pa.Array:
    """The values at these rows; null where the row is -1."""
    values = column.take(pa.array(row, mask=row < 0))
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
