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
from bid_assets.features.as_of_join import as_of_row_index, take_or_null
from bid_assets.features.family import Encoder, FeatureFamily, RawTables, span_mask
from bid_assets.features.inputs import BidContext, BidHistory, FeatureRow
from bid_assets.features.interval_counts import GroupedTimeline, argsort_by_group_time


class HistoryArrays(NamedTuple):
    """Bids, and outcomes in order of (bid, time known, id). Times are int64 microseconds."""

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

    def sorted(self, outcome_ids: pa.ChunkedArray | Sequence[str]) -> HistoryArrays:
        """The same with the outcomes in their order."""
        order = argsort_by_group_time(self.outcome_bid, self.known_at, outcome_ids)
        outcome_bid, known_at, is_success = self.outcome_bid[order], self.known_at[order], self.is_success[order]
        return HistoryArrays(self.owner, self.submitted_at, outcome_bid, known_at, is_success)


Kernel = Callable[[HistoryArrays, GroupedTimeline], Sequence[npt.NDArray[Any]]]
"""The family's features of some rows, each of an owner (the group) and at a time: a column each, in the order of their
declaration; NaN is missing. A row may count what is older than itself, of its own owner."""


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
        owners, submitted_at = self._owners(tables), microseconds(bids["submitted_at"])
        owner = pc.fill_null(owners.dictionary_encode().indices, -1).to_numpy().astype(np.int64)
        with_owner = np.flatnonzero(owner >= 0)
        with_owner = with_owner[argsort_by_group_time(owner[with_owner], submitted_at[with_owner])]  # for quick searches
        index = np.full(bids.num_rows + 1, -1)  # of each bid among those whose owner is known; the last stands for no bid
        index[with_owner] = np.arange(len(with_owner))
        outcome_bid = index[pc.fill_null(pc.index_in(outcomes["bid_id"], value_set=bids["id"]), -1).to_numpy()]
        if (outcome_bid < 0).any():
            outcomes, outcome_bid = outcomes.filter(pa.array(outcome_bid >= 0)), outcome_bid[outcome_bid >= 0]
        known_at, is_success = microseconds(outcomes["outcome_timestamp"]), outcomes["is_success"].to_numpy()
        history = HistoryArrays(owner[with_owner], submitted_at[with_owner], outcome_bid, known_at, is_success)
        rows = np.flatnonzero(span_mask(bids["submitted_at"], span))
        known = owner[rows] >= 0
        timeline = GroupedTimeline(owner[rows][known], submitted_at[rows][known])
        columns = self.kernel(history.sorted(outcomes["id"]), timeline)
        bids = bids.select(["id", "submitted_at"]).take(pa.array(rows))
        by_name = {each.name: _array(column, known) for each, column in zip(family.features, columns, strict=True)}
        return family.table(bids["id"], bids["submitted_at"], by_name)

    def compute_rows(self, family: FeatureFamily, bids: Sequence[BidContext], encoder: Encoder | None) -> list[FeatureRow]:
        """The features of each bid, in order: the kernel over the histories that the bids see."""
        by_bid = [self._history(bid) for bid in bids]
        histories = {id(history): history for history in by_bid if history is not None}
        names = [each.name for each in family.features]
        if not histories:
            return [dict.fromkeys(names)] * len(bids)
        number = {identity: owner for owner, identity in enumerate(histories)}
        counts = np.array([len(each.submitted_at) for each in histories.values()])
        first_bid = np.repeat(counts.cumsum() - counts, [len(each.outcome_ids) for each in histories.values()])
        history = HistoryArrays(
            np.repeat(np.arange(len(counts)), counts),
            _integers(each.submitted_at for each in histories.values()),
            _integers(each.outcome_bid_index for each in histories.values()) + first_bid,
            _integers(each.known_at for each in histories.values()),
            _integers(each.is_success for each in histories.values()).astype(np.bool_),
        ).sorted([*chain.from_iterable(each.outcome_ids for each in histories.values())])
        rows = [(number[id(each)], bid.at) for each, bid in zip(by_bid, bids, strict=True) if each is not None]
        columns = self.kernel(history, GroupedTimeline(*np.array(rows).T))
        features = (dict(zip(names, row, strict=True)) for row in zip(*map(_plain_values, columns), strict=True))
        return [dict.fromkeys(names) if each is None else next(features) for each in by_bid]

    def _owners(self, tables: RawTables) -> pa.Array:
        """The owner of each bid; null where it is not known."""
        bids = tables["raw_bids"]
        if self.owner == "profile":
            return bids["profile_id"].combine_chunks()
        jobs = tables["raw_jobs"]
        return take_or_null(jobs["client_id"], as_of_row_index(jobs, bids["job_id"], bids))

    def _history(self, bid: BidContext) -> BidHistory | None:
        return bid.profile_history if self.owner == "profile" else bid.client_history


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
