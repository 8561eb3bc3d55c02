"""Synthetic raw tables: requested bids and their histories, from a point lookup, as the raw tables that feature families read.

Bids of one batch do not see each other: each group of bids with the same owner and time gets a copy of its profile's history
and of its client's (rows of equal time do not see each other anyway). Ids are replaced by numbers of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_BIDS, RAW_JOBS, RAW_PROFILES, TEXT, TIME
from bid_assets.app_db.point_lookup import HistoryColumns, LookupResult
from bid_assets.common.windows import Cadence, microseconds_since_epoch
from bid_assets.features.family import FeatureFamily
from bid_assets.features.interval_counts import Integers
from bid_assets.serving.bid_requests import BidRequest, json_text


class SyntheticRawTables:
    """Raw tables of some requested bids, each submitted at its time."""

    def __init__(self, bids: Sequence[BidRequest], times: Sequence[datetime], lookup: LookupResult, cadence: Cadence) -> None:
        self._bids, self._lookup = bids, lookup
        self._submitted_at = [microseconds_since_epoch(at) for at in times]
        self._windows = [microseconds_since_epoch(cadence.floor(at)) for at in times]
        groups: dict[tuple[str, int], int] = {}
        self._group_of_bid = [
            groups.setdefault((bid.profile_id, at), len(groups)) for bid, at in zip(bids, self._submitted_at, strict=True)
        ]
        self._profile_of_group = [profile for profile, _ in groups]
        self._client_groups: dict[tuple[str, int], int] = {}
        self._ids = {kind: [f"\x1f{kind}{index}" for index in range(len(bids))] for kind in ("bid", "job")}
        self._requested_bids = self._raw_requested_bids()
        self._profiles, self._jobs = self._raw_profiles(), self._raw_jobs()
        self._history, self._outcomes = self._raw_history()

    def tables(self, family: FeatureFamily) -> dict[str, pa.Table]:
        """The raw tables for a family; past bids only for one with a look-back."""
        return {
            "raw_bids": self._history if family.lookback_days else self._requested_bids,
            "raw_bid_outcomes": self._outcomes,
            "raw_profiles": self._profiles,
            "raw_jobs": self._jobs,
        }

    def features_in_order(self, family: FeatureFamily, rows: pa.Table) -> dict[str, pa.Array]:
        """The computed features of a family by name, in the order of the bids."""
        ids = self._requested_bids["id" if family.key == "bid_id" else "job_id"].chunk(0)
        known, _, *columns = _arrays(rows)
        index = pc.index_in(ids, value_set=known)
        return {feature.name: column.take(index) for feature, column in zip(family.features, columns, strict=True)}

    def _raw_requested_bids(self) -> pa.Table:
        return _table(
            RAW_BIDS,
            len(self._bids),
            id=self._ids["bid"],
            profile_id=list(map(_profile_id, self._group_of_bid)),
            job_id=self._ids["job"],
            amount=[bid.amount for bid in self._bids],
            generated_bid_text=[bid.bid_text for bid in self._bids],
            bid_settings_snapshot=[json_text(bid.settings) for bid in self._bids],
            external_signals_snapshot=[json_text(bid.external_signals) for bid in self._bids],
            submitted_at=self._submitted_at,
        )

    def _raw_profiles(self) -> pa.Table:
        first = {group: index for index, group in reversed(list(enumerate(self._group_of_bid)))}
        known = [group for group, name in enumerate(self._profile_of_group) if name in self._lookup.profiles]
        rows = [
            {**self._lookup.profiles[self._profile_of_group[group]], "id": name, "window": self._windows[first[group]]}
            for group, name in zip(known, map(_profile_id, known), strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=RAW_PROFILES)

    def _raw_jobs(self) -> pa.Table:
        """A row for each bid whose job is known, from database or caller, and one for each client's earlier jobs."""
        rows: list[dict[str, Any]] = []
        for index, bid in enumerate(self._bids):
            job = self._lookup.jobs.get(bid.job_id or "") if bid.job is None else bid.job.to_raw_row()
            if job is not None:
                client = None
                if job["client_id"] is not None:
                    group = (job["client_id"], self._submitted_at[index])
                    client = _client_id(self._client_groups.setdefault(group, len(self._client_groups)))
                requested = {"id": self._ids["job"][index], "window": self._windows[index], "client_id": client}
                rows.append({**job, **requested})
        rows += [{"id": name, "window": 0, "client_id": name} for name in map(_client_id, self._client_groups.values())]
        return pa.Table.from_pylist(rows, schema=RAW_JOBS)

    def _raw_history(self) -> tuple[pa.Table, pa.Table]:
        """The requested bids among those of their profiles and clients, and the outcomes of these, copied for each group.

        Copies for a client are all on one job of its own, and of no profile; copies for a profile are on no job.
        """
        profiles = _copy_to_groups(self._lookup.profile_history, self._profile_of_group)
        clients = _copy_to_groups(self._lookup.client_history, [name for name, _ in self._client_groups])
        profile_bids, client_bids, requested = len(profiles.group), len(clients.group), self._requested_bids
        bid_ids = _sequential_ids(profile_bids + client_bids)
        bids = {
            "id": [bid_ids, requested["id"].chunk(0)],
            "profile_id": [
                _group_names(_profile_id, profiles.group),
                _empty_ids(client_bids),
                requested["profile_id"].chunk(0),
            ],
            "job_id": [_empty_ids(profile_bids), _group_names(_client_id, clients.group), requested["job_id"].chunk(0)],
            "submitted_at": [
                _timestamps(profiles.submitted_at),
                _timestamps(clients.submitted_at),
                requested["submitted_at"].chunk(0),
            ],
        }
        outcomes = {
            "id": [profiles.outcome_ids, clients.outcome_ids],
            "bid_id": [
                bid_ids.take(pa.array(profiles.outcome_bid_index)),
                bid_ids.take(pa.array(clients.outcome_bid_index + profile_bids)),
            ],
            "is_success": [profiles.is_success, clients.is_success],
            "outcome_timestamp": [_timestamps(profiles.known_at), _timestamps(clients.known_at)],
        }
        return _concat_columns(bids), _concat_columns(outcomes)


class _GroupHistories(NamedTuple):
    """Bids and outcomes of some groups, column by column; times in microseconds since 1970."""

    group: Integers
    """Of each bid."""
    submitted_at: Integers
    """Of each bid."""
    outcome_bid_index: Integers
    """The row of its bid, of each outcome."""
    outcome_ids: pa.Array
    is_success: pa.Array
    known_at: Integers


def _copy_to_groups(history: HistoryColumns, owners: Sequence[str]) -> _GroupHistories:
    """The bids and outcomes of each owner, once for each group of it; `owners`: the owner of each group."""
    codes: dict[str, int] = {}
    groups = np.array([codes.setdefault(owner, len(codes)) for owner in owners], np.int64)
    owner = np.array([codes.get(name, len(codes)) for name in history.owners], np.int64)
    submitted, bids, known = (
        np.array(column, np.int64) for column in (history.submitted_at, history.outcome_bid_index, history.known_at)
    )
    order = np.argsort(owner, kind="stable")
    row, group = _for_each(groups, owner, order)
    outcome, outcome_group = _for_each(groups, owner[bids], np.argsort(owner[bids], kind="stable"))
    index_in_owner = np.empty_like(owner)  # of a bid among those of its owner
    index_in_owner[order] = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
    outcome_bid = np.searchsorted(group, outcome_group) + index_in_owner[bids[outcome]]
    outcomes, successes = pa.array(history.outcome_ids, TEXT), pa.array(history.is_success, pa.bool_())
    chosen = pa.array(outcome)
    return _GroupHistories(group, submitted[row], outcome_bid, outcomes.take(chosen), successes.take(chosen), known[outcome])


def _for_each(groups: Integers, owner: Integers, order: Integers) -> tuple[Integers, Integers]:
    """The rows of each group's owner, in their order, and the group of each of these rows. `order` sorts `owner`."""
    start, end = (np.searchsorted(owner[order], groups, side=side) for side in ("left", "right"))
    count = end - start
    group = np.repeat(np.arange(len(groups)), count)
    before = np.cumsum(count) - count
    return order[np.arange(len(group)) + (start - before)[group]], group


def _concat_columns(columns: Mapping[str, list[pa.Array]]) -> pa.Table:
    return pa.table({name: pa.concat_arrays(arrays) for name, arrays in columns.items()})


def _timestamps(microseconds: Integers) -> pa.Array:
    return pa.array(microseconds).view(TIME)


def _sequential_ids(count: int) -> pa.Array:
    """Distinct ids, never those of the requested bids."""
    return pc.cast(pa.array(np.arange(count)), TEXT)


def _empty_ids(rows: int) -> pa.Array:
    return pa.repeat(pa.scalar("", TEXT), rows)


def _group_names(name: Callable[[int], str], groups: Integers) -> pa.Array:
    """The synthetic id of each row's group."""
    return pa.array([name(group) for group in groups.tolist()], TEXT)


def _table(schema: pa.Schema, rows: int, **columns: list[Any]) -> pa.Table:
    """A table of the schema; columns that are absent are null."""
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(rows, field.type) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _client_id(group: int) -> str:
    return f"\x1fclient{group}"


def _profile_id(group: int) -> str:
    return f"\x1fprofile{group}"


def _arrays(table: pa.Table) -> list[pa.Array]:
    """The columns of a table, each in one piece."""
    return [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]
