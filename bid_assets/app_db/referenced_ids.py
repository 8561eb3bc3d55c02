"""Which jobs and profiles the bids of each window name, as it was seen while the bids were read. Pure Arrow and numpy.

With this the database need not look for them in the bids again, and sends each of their rows once for many windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_BIDS, TEXT, TIME
from bid_assets.common.windows import MONDAY, Cadence, TimeRange

NAMING = pa.schema([RAW_BIDS.field(name) for name in ("profile_id", "job_id", "submitted_at")])
"""The columns of a bid that `Names.learn` needs."""

_NAMED_BY = ("job_id", "profile_id")


class Names:
    """What ranges of bids name. It remembers each distinct pair of window and id, in twelve bytes and a share of the id."""

    def __init__(self, cadence: Cadence) -> None:
        self._cadence = cadence
        self._seen: dict[TimeRange, dict[str, pa.Table]] = {}

    def __contains__(self, span: TimeRange) -> bool:
        """Whether just this range has been learnt."""
        return span in self._seen

    def learn(self, span: TimeRange, bids: pa.Table) -> None:
        """Remember what `bids`, which are all the valid ones of `span`, name."""
        origin, width = int(MONDAY.timestamp()) * 1_000_000, self._cadence.length // timedelta(microseconds=1)
        moments = bids["submitted_at"].cast(pa.int64()).to_numpy()
        windows = pa.array(moments - (moments - origin) % width, TIME)
        self._seen[span] = {
            column: _encoded(_distinct(pa.table({"window": windows, "id": bids[column]}))) for column in _NAMED_BY
        }

    def within(self, span: TimeRange, column: str, learnt: Iterable[TimeRange]) -> pa.Table:
        """Each `window` of `span` beside each `id` that its bids in the ranges `learnt`, which make it up, name in `column`.

        The ids are one dictionary, which holds no others.
        """
        # those that only touch do no harm, and with them even an empty span has one
        parts = [self._seen[part][column] for part in learnt if part.start <= span.end and span.start <= part.end]
        pairs = pa.concat_tables(parts)
        inside = pc.and_(
            pc.greater_equal(pairs["window"], pa.scalar(self._cadence.floor(span.start), TIME)),
            pc.less(pairs["window"], pa.scalar(span.end, TIME)),
        )
        pairs = pairs.filter(inside)
        return _encoded(_distinct(pairs.set_column(1, "id", pairs["id"].cast(TEXT))))


def places(pairs: pa.Table, rows: pa.Table) -> tuple[pa.Array, pa.Array]:
    """For each of `pairs` that has a row, by window and place: its window, and the place of its row in `rows`.

    `rows["at"]` says which of the dictionary's ids a row is of, counted from one.
    """
    ids = pairs["id"].combine_chunks()
    place_of = np.full(len(ids.dictionary), -1)
    place_of[rows["at"].to_numpy() - 1] = np.arange(rows.num_rows)
    place = place_of[ids.indices.to_numpy()]
    order = np.lexsort((place, pairs["window"].to_numpy()))
    order = order[place[order] >= 0]
    return pairs["window"].combine_chunks().take(pa.array(order)), pa.array(place[order])


def _distinct(pairs: pa.Table) -> pa.Table:
    return pairs.group_by(["window", "id"], use_threads=False).aggregate([])


def _encoded(pairs: pa.Table) -> pa.Table:
    return pairs.set_column(1, "id", pairs["id"].combine_chunks().dictionary_encode())
