"""The raw rows behind bids to be, as the feature families want them: put together from what a look-up has found.

Bids asked about together do not see each other: each gets a copy of its profile's history and of its client's, unless they
share owner and time (rows of equal time do not see each other anyway). Ids are replaced by numbers of the request.
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


class RawRows:
    """The raw rows behind some bids, each submitted at its time."""

    def __init__(self, bids: Sequence[BidRequest], times: Sequence[datetime], found: LookupResult, cadence: Cadence) -> None:
        self._bids, self._found = bids, found
        self._at = [microseconds_since_epoch(at) for at in times]
        self._windows = [microseconds_since_epoch(cadence.floor(at)) for at in times]
        groups: dict[tuple[str, int], int] = {}
        self._group = [groups.setdefault((bid.profile_id, at), len(groups)) for bid, at in zip(bids, self._at, strict=True)]
        self._profile_of_group = [profile for profile, _ in groups]
        self._client_groups: dict[tuple[str, int], int] = {}
        self._keys = {kind: [f"\x1f{kind}{number}" for number in range(len(bids))] for kind in ("bid", "job")}
        self._asked = self._asked_bids()
        self._profiles, self._jobs = self._raw_profiles(), self._raw_jobs()
        self._history, self._outcomes = self._raw_history()

    def tables(self, family: FeatureFamily) -> dict[str, pa.Table]:
        """The raw tables for a family; other bids only for one that looks back."""
        return {
            "raw_bids": self._history if family.lookback_days else self._asked,
            "raw_bid_outcomes": self._outcomes,
            "raw_profiles": self._profiles,
            "raw_jobs": self._jobs,
        }

    def joined(self, family: FeatureFamily, rows: pa.Table) -> dict[str, pa.Array]:
        """The family's features in the order of the bids."""
        keys = self._asked["id" if family.key == "bid_id" else "job_id"].chunk(0)
        there, _, *columns = _arrays(rows)
        index = pc.index_in(keys, value_set=there)
        return {feature.name: column.take(index) for feature, column in zip(family.features, columns, strict=True)}

    def _asked_bids(self) -> pa.Table:
        return _table(
            RAW_BIDS,
            len(self._bids),
            id=self._keys["bid"],
            profile_id=list(map(_profile, self._group)),
            job_id=self._keys["job"],
            amount=[bid.amount for bid in self._bids],
            generated_bid_text=[bid.bid_text for bid in self._bids],
            bid_settings_snapshot=[json_text(bid.settings) for bid in self._bids],
            external_signals_snapshot=[json_text(bid.external_signals) for bid in self._bids],
            submitted_at=self._at,
        )

    def _raw_profiles(self) -> pa.Table:
        first = {group: number for number, group in reversed(list(enumerate(self._group)))}
        there = [group for group, name in enumerate(self._profile_of_group) if name in self._found.profiles]
        rows = [
            {**self._found.profiles[self._profile_of_group[group]], "id": name, "window": self._windows[first[group]]}
            for group, name in zip(there, map(_profile, there), strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=RAW_PROFILES)

    def _raw_jobs(self) -> pa.Table:
        """One row for each bid whose job is known, from the database or from the caller; and one for each client's earlier jobs."""
        rows: list[dict[str, Any]] = []
        for number, bid in enumerate(self._bids):
            job = self._found.jobs.get(bid.job_id or "") if bid.job is None else bid.job.to_raw_row()
            if job is not None:
                client = None
                if job["client_id"] is not None:
                    group = (job["client_id"], self._at[number])
                    client = _client(self._client_groups.setdefault(group, len(self._client_groups)))
                asked = {"id": self._keys["job"][number], "window": self._windows[number], "client_id": client}
                rows.append({**job, **asked})
        rows += [{"id": name, "window": 0, "client_id": name} for name in map(_client, self._client_groups.values())]
        return pa.Table.from_pylist(rows, schema=RAW_JOBS)

    def _raw_history(self) -> tuple[pa.Table, pa.Table]:
        """The bids asked about among the others of their profiles and clients, and the outcomes of these: a copy for each group.

        Copies for a client are all on one job of its own, and of no profile; copies for a profile are on no job.
        """
        profiles = _copies(self._found.profile_history, self._profile_of_group)
        clients = _copies(self._found.client_history, [name for name, _ in self._client_groups])
        others, theirs, asked = len(profiles.group), len(clients.group), self._asked
        names = _numbered(others + theirs)
        bids = {
            "id": [names, asked["id"].chunk(0)],
            "profile_id": [_named(_profile, profiles.group), _nowhere(theirs), asked["profile_id"].chunk(0)],
            "job_id": [_nowhere(others), _named(_client, clients.group), asked["job_id"].chunk(0)],
            "submitted_at": [_moments(profiles.submitted), _moments(clients.submitted), asked["submitted_at"].chunk(0)],
        }
        outcomes = {
            "id": [profiles.outcomes, clients.outcomes],
            "bid_id": [names.take(pa.array(profiles.bids)), names.take(pa.array(clients.bids + others))],
            "is_success": [profiles.successes, clients.successes],
            "outcome_timestamp": [_moments(profiles.known), _moments(clients.known)],
        }
        return _joined(bids), _joined(outcomes)


class _Copies(NamedTuple):
    """Bids and outcomes of some groups, column by column."""

    group: Integers
    """Of each bid."""
    submitted: Integers
    """When each bid was; microseconds."""
    bids: Integers
    """Of each outcome the row of its bid."""
    outcomes: pa.Array
    """Their ids."""
    successes: pa.Array
    known: Integers
    """Since when; microseconds."""


def _copies(record: HistoryColumns, owners: Sequence[str]) -> _Copies:
    """The bids and outcomes of each owner, once for each group that `owners` says is its."""
    codes: dict[str, int] = {}
    groups = np.array([codes.setdefault(owner, len(codes)) for owner in owners], np.int64)
    owner = np.array([codes.get(name, len(codes)) for name in record.owners], np.int64)
    submitted, bids, known = (
        np.array(column, np.int64) for column in (record.submitted_at, record.outcome_bid_index, record.known_at)
    )
    order = np.argsort(owner, kind="stable")
    row, group = _for_each(groups, owner, order)
    outcome, its_group = _for_each(groups, owner[bids], np.argsort(owner[bids], kind="stable"))
    place = np.empty_like(owner)  # of a bid among those of its owner
    place[order] = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
    new = np.searchsorted(group, its_group) + place[bids[outcome]]
    outcomes, successes = pa.array(record.outcome_ids, TEXT), pa.array(record.is_success, pa.bool_())
    chosen = pa.array(outcome)
    return _Copies(group, submitted[row], new, outcomes.take(chosen), successes.take(chosen), known[outcome])


def _for_each(groups: Integers, owner: Integers, order: Integers) -> tuple[Integers, Integers]:
    """For each group the rows whose owner it is, in their order; and the group of each of these rows. `order` sorts `owner`."""
    start, end = (np.searchsorted(owner[order], groups, side=side) for side in ("left", "right"))
    count = end - start
    group = np.repeat(np.arange(len(groups)), count)
    before = np.cumsum(count) - count
    return order[np.arange(len(group)) + (start - before)[group]], group


def _joined(columns: Mapping[str, list[pa.Array]]) -> pa.Table:
    return pa.table({name: pa.concat_arrays(arrays) for name, arrays in columns.items()})


def _moments(microseconds: Integers) -> pa.Array:
    return pa.array(microseconds).view(TIME)


def _numbered(count: int) -> pa.Array:
    """So many different names; never those of the bids asked about."""
    return pc.cast(pa.array(np.arange(count)), TEXT)


def _nowhere(rows: int) -> pa.Array:
    return pa.repeat(pa.scalar("", TEXT), rows)


def _named(name: Callable[[int], str], groups: Integers) -> pa.Array:
    """The name of each row's group."""
    return pa.array([name(group) for group in groups.tolist()], TEXT)


def _table(schema: pa.Schema, rows: int, **columns: list[Any]) -> pa.Table:
    """A table of the schema; what is not given is null."""
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(rows, field.type) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _client(group: int) -> str:
    return f"\x1fclient{group}"


def _profile(group: int) -> str:
    return f"\x1fprofile{group}"


def _arrays(table: pa.Table) -> list[pa.Array]:
    """The columns of a table, each in one piece."""
    return [column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns]
