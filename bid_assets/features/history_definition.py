"""Features of past bids: one kernel on plain arrays, with an adapter for raw tables and one for the histories of a few bids.

The kernel knows neither Arrow nor lists, and does not care whether the owner of bids is a profile or a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.arrow import Integers, microseconds
from bid_assets.common.windows import TimeRange
from bid_assets.features.family import Encoder, FeatureFamily, RawTables, as_of_row_index, span_mask, take_or_null
from bid_assets.features.inputs import BidContext, BidHistory, FeatureRow
from bid_assets.features.interval_counts import argsort_by_group_time


class HistoryArrays(NamedTuple):
    """Bids in order of (owner, time), and outcomes in order of (bid, time known, id). Times are int64 microseconds."""

    owner: Integers
    """Of each bid, from 0."""
    submitted_at: Integers
    """Of each bid."""
    outcome_bid: Integers
    """Of each outcome: the index of its bid."""
    known_at: Integers
    """Of each outcome: when it became known."""
    is_success: npt.NDArray[np.bool_]
    """Of each outcome."""


Kernel = Callable[[HistoryArrays, Integers], Sequence[npt.NDArray[Any]]]
"""The family's features of the bids at these indices, a column each, in the order of their declaration; NaN is missing.

A bid may count what is older than itself, of its own owner.
"""


@dataclass(frozen=True)
class HistoryDefinition:
    """The features that `kernel` gives for the bids of the same `owner`.

    The owner of a bid is its profile, or the client of its job; all is missing where that is not known.
    """

    kernel: Kernel
    owner: Literal["profile", "client"]

    def compute_table(self, family: FeatureFamily, tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
        """The family's table: the kernel over all bids of `tables`, of which those of `span` are taken."""
        bids, outcomes = tables["raw_bids"], tables["raw_bid_outcomes"]
        owners = self._owners(tables)
        with_owner = np.flatnonzero(owners.is_valid())
        index = np.full(bids.num_rows + 1, -1)  # of each bid among those whose owner is known; the last stands for no bid
        index[with_owner] = np.arange(len(with_owner))
        outcome_bid = index[pc.fill_null(pc.index_in(outcomes["bid_id"], value_set=bids["id"]), -1).to_numpy()]
        if (outcome_bid < 0).any():
            outcomes, outcome_bid = outcomes.filter(pa.array(outcome_bid >= 0)), outcome_bid[outcome_bid >= 0]
        arrays, place = _sorted_arrays(
            owners.drop_null().dictionary_encode().indices.to_numpy().astype(np.int64),
            microseconds(bids["submitted_at"])[with_owner],
            outcome_bid,
            microseconds(outcomes["outcome_timestamp"]),
            outcomes["is_success"].to_numpy(),
            outcomes["id"],
        )
        rows = np.flatnonzero(span_mask(bids["submitted_at"], span))
        known = index[rows] >= 0
        columns = self.kernel(arrays, place[index[rows][known]])
        bids = bids.select(["id", "submitted_at"]).take(pa.array(rows))
        by_name = {each.name: _array(column, known) for each, column in zip(family.features, columns, strict=True)}
        return family.table(bids["id"], bids["submitted_at"], by_name)

    def compute_rows(self, family: FeatureFamily, bids: Sequence[BidContext], encoder: Encoder | None) -> list[FeatureRow]:
        """The features of each bid, in order: the kernel over one history for each owner and time, with a bid at that time."""
        histories = {(id(history), bid.at): history for bid in bids if (history := self._history(bid)) is not None}
        if not histories:
            return [dict.fromkeys(each.name for each in family.features)] * len(bids)
        counts = np.array([len(history.submitted_at) + 1 for history in histories.values()])
        ends = counts.cumsum()
        outcome_counts = [len(history.outcome_ids) for history in histories.values()]
        arrays, place = _sorted_arrays(
            np.repeat(np.arange(len(counts)), counts),
            _integers((*history.submitted_at, at) for (_, at), history in histories.items()),
            _integers(history.outcome_bid_index for history in histories.values()) + np.repeat(ends - counts, outcome_counts),
            _integers(history.known_at for history in histories.values()),
            _integers(history.is_success for history in histories.values()).astype(np.bool_),
            [*chain.from_iterable(history.outcome_ids for history in histories.values())],
        )
        columns = self.kernel(arrays, place[ends - 1])
        names = [each.name for each in family.features]
        rows = (dict(zip(names, row, strict=True)) for row in zip(*map(_plain_values, columns), strict=True))
        features = dict(zip(histories, rows, strict=True))
        missing = dict.fromkeys(names)
        return [features.get((id(self._history(bid)), bid.at), missing) for bid in bids]

    def _owners(self, tables: RawTables) -> pa.Array:
        """The owner of each bid; null where it is not known."""
        bids = tables["raw_bids"]
        if self.owner == "profile":
            return bids["profile_id"].combine_chunks()
        jobs = tables["raw_jobs"]
        return take_or_null(jobs["client_id"], as_of_row_index(jobs, bids["job_id"], bids))

    def _history(self, bid: BidContext) -> BidHistory | None:
        return bid.profile_history if self.owner == "profile" else bid.client_history


def _sorted_arrays(
    owner: Integers,
    submitted_at: Integers,
    outcome_bid: Integers,
    known_at: Integers,
    is_success: npt.NDArray[np.bool_],
    outcome_ids: pa.ChunkedArray | Sequence[str],
) -> tuple[HistoryArrays, Integers]:
    """`HistoryArrays` from the same columns in any order, and the place of each bid in it."""
    order = argsort_by_group_time(owner, submitted_at)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    bid = place[outcome_bid]
    by_bid = argsort_by_group_time(bid, known_at, outcome_ids)
    return HistoryArrays(owner[order], submitted_at[order], bid[by_bid], known_at[by_bid], is_success[by_bid]), place


def _integers(lists: Iterable[Sequence[int]]) -> Integers:
    """The lists, one after the other."""
    return np.array([*chain.from_iterable(lists)], np.int64)


def _array(column: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> pa.Array:
    """The values of the column at the rows that are known; null at the others, and for NaN."""
    values = np.zeros(len(known), column.dtype)
    values[known] = column
    return pa.array(values, mask=~known | (values != values))


def _plain_values(column: npt.NDArray[Any]) -> list[Any]:
    """Python values, None for NaN."""
    values = column.tolist()
    return [None if value != value else value for value in values] if column.dtype.kind == "f" else values
