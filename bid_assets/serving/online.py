"""Features of bids to be, from the very functions that training uses, over the application's database as of each bid's time.

The rows that the families would see of a past bid are put together for the bids asked about: nothing of a feature is computed
here. So what is served equals what was trained on, bit for bit. Bids asked about together do not see each other: each gets a
copy of its profile's history and of its client's, unless they share them and the time (rows of equal time do not see each
other anyway).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_BID_OUTCOMES, RAW_BIDS, RAW_JOBS, RAW_PROFILES, TEXT, TIME
from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.lookup import Found, Lookup
from bid_assets.features.base import FeatureFamily
from bid_assets.features.encoder import make_encoder
from bid_assets.features.families import families
from bid_assets.serving.requests import BidToBe, JobText
from bid_assets.settings import Settings
from bid_assets.windows import TimeRange, as_utc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class OnlineBatch:
    """Features of some bids, in their order."""

    table: pa.Table
    """One row per bid, the features of all families; null where something is unknown."""
    missing: list[list[str]]
    """Of each bid what was not there, in words."""
    as_of: list[datetime]
    newest_outcome: list[datetime | None]
    """The newest outcome of the profile that was known then: how fresh its history is."""


class OnlineFeatures:
    """Makes features for the prediction service. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._cadence = settings.cadence
        self._lookup = Lookup(app_db_url(settings))
        self._back = timedelta(days=max(family.lookback_days for family in families()))
        self.encoder = make_encoder(settings.encoder, settings.home)

    def features(self, bids: Sequence[BidToBe]) -> OnlineBatch:
        """The features of `bids`, with six look-ups however many they are. Raises `DatabaseUnreachable`, `ContractError`."""
        now = datetime.now(UTC)
        times = [now if bid.at is None else as_utc(bid.at) for bid in bids]
        found = self._lookup.find(
            sorted({bid.profile_id for bid in bids}),
            sorted({bid.job_id for bid in bids if bid.job_id is not None and bid.job is None}),
            min(times) - self._back,
            max(times) + _MICROSECOND,
            sorted({bid.job.client_id for bid in bids if bid.job is not None and bid.job.client_id is not None}),
        )
        rows = _Rows(bids, times, found, [self._cadence.floor(at) for at in times])
        span = TimeRange(self._cadence.floor(min(times)), max(times) + _MICROSECOND)
        columns: dict[str, pa.Array] = {}
        for family in families():
            columns |= rows.joined(family, family.compute(rows.tables(family), span, self.encoder))
        table = pa.table(columns)
        return OnlineBatch(table, rows.missing(table), times, rows.newest_outcomes())

    def close(self) -> None:
        """Close the connections."""
        self._lookup.close()


class _Rows:
    """The raw rows behind some bids, as the families want them: ids are replaced by numbers of this request."""

    def __init__(self, bids: Sequence[BidToBe], times: Sequence[datetime], found: Found, windows: Sequence[datetime]) -> None:
        self._bids, self._times, self._found, self._windows = bids, times, found, windows
        self._at = [(at - _EPOCH) // _MICROSECOND for at in times]
        groups: dict[tuple[str, int], int] = {}
        self._group = [groups.setdefault((bid.profile_id, at), len(groups)) for bid, at in zip(bids, self._at, strict=True)]
        self._profile_of_group = [profile for profile, _ in groups]
        self._client_groups: dict[tuple[str, int], int] = {}
        self._profile_row = {name: number for number, name in enumerate(found.profiles["asked"].to_pylist())}
        self._job_row = {name: number for number, name in enumerate(found.jobs["asked"].to_pylist())}
        self._keys = pa.array([f"\x1fbid{number}" for number in range(len(bids))], TEXT)
        self._job_keys = pa.array([f"\x1fjob{number}" for number in range(len(bids))], TEXT)
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
        keys, there = self._keys if family.key == "bid_id" else self._job_keys, _one(rows[family.key])
        if there.equals(keys):  # always so for one bid
            return {feature.name: _one(rows[feature.name]) for feature in family.features}
        index = pc.index_in(keys, value_set=there)
        return {feature.name: _one(rows[feature.name]).take(index) for feature in family.features}

    def missing(self, table: pa.Table) -> list[list[str]]:
        """Of each bid what was not there."""
        seen = table["bids_90d"].to_pylist()
        told = []
        for number, bid in enumerate(self._bids):
            words = []
            row = self._profile_row.get(bid.profile_id)
            if row is None:
                words.append("profile unknown")
            elif (changed := self._found.profiles["updated_at"][row].as_py()) is not None and changed >= self._times[number]:
                words.append("profile changed since")
            if bid.job is None and bid.job_id not in self._job_row:
                words.append("no job" if bid.job_id is None else "job unknown")
            if not seen[number]:
                words.append("no history")
            if not (bid.bid_text or "").strip():
                words.append("no bid text")
            if bid.amount is None:
                words.append("no amount")
            told.append(words)
        return told

    def newest_outcomes(self) -> list[datetime | None]:
        """The newest outcome of each bid's profile known before the bid."""
        known: dict[str, list[int]] = {}
        for _, _, profile, _, moment in self._found.outcomes:
            known.setdefault(profile, []).append(moment)
        newest = [
            max((moment for moment in known.get(bid.profile_id, ()) if moment < at), default=None)
            for bid, at in zip(self._bids, self._at, strict=True)
        ]
        return [None if moment is None else _EPOCH + moment * _MICROSECOND for moment in newest]

    def _asked_bids(self) -> pa.Table:
        settings = [
            bid.settings if bid.settings is None or isinstance(bid.settings, str) else _json(bid.settings) for bid in self._bids
        ]
        return _table(
            RAW_BIDS,
            len(self._bids),
            id=self._keys,
            profile_id=_group_names(self._group),
            job_id=self._job_keys,
            amount=pa.array([bid.amount for bid in self._bids], pa.float64()),
            generated_bid_text=pa.array([bid.bid_text for bid in self._bids], TEXT),
            bid_settings_snapshot=pa.array(settings, TEXT),
            submitted_at=_times(self._at),
        )

    def _raw_profiles(self) -> pa.Table:
        first = {group: number for number, group in reversed(list(enumerate(self._group)))}
        there = [group for group, name in enumerate(self._profile_of_group) if name in self._profile_row]
        rows = self._found.profiles.take(pa.array([self._profile_row[self._profile_of_group[g]] for g in there], pa.int64()))
        windows = [(self._windows[first[group]] - _EPOCH) // _MICROSECOND for group in there]
        return _replaced(rows, RAW_PROFILES, id=_group_names(there), window=_times(windows))

    def _raw_jobs(self) -> pa.Table:
        """One row for each bid whose job is known, from the database or from the caller; and one for each client's earlier jobs."""
        rows: list[dict[str, Any]] = []
        stored = self._found.jobs.to_pylist()
        for number, bid in enumerate(self._bids):
            job = bid.job
            if job is None and bid.job_id in self._job_row:
                known = stored[self._job_row[str(bid.job_id)]]
                job = JobText(**{name: known[name] for name in JobText.__dataclass_fields__})
            if job is not None:
                posted = None if job.posted_at is None else as_utc(job.posted_at)
                client = None
                if job.client_id is not None:
                    group = (job.client_id, self._at[number])
                    client = _client(self._client_groups.setdefault(group, len(self._client_groups)))
                asked = {"id": f"\x1fjob{number}", "window": self._windows[number], "posted_at": posted, "client_id": client}
                rows.append({**vars(job), **asked})
        rows += [{"id": name, "window": _EPOCH, "client_id": name} for name in map(_client, self._client_groups.values())]
        return pa.Table.from_pylist(rows, schema=RAW_JOBS)

    def _raw_history(self) -> tuple[pa.Table, pa.Table]:
        """The bids asked about among the others of their profiles and clients, and the outcomes of these: a copy for each group.

        Copies for a client are all on one job of its own, and of no profile; copies for a profile are on no job.
        """
        found = self._found
        of_profiles, their = _copies("", self._profile_of_group, found.bids, found.outcomes)
        of_clients, theirs = _copies(
            "\x1fclient", [name for name, _ in self._client_groups], found.client_bids, found.client_outcomes
        )
        bids, outcomes = of_profiles + of_clients, their + theirs
        count = len(of_profiles)
        others = _table(
            RAW_BIDS,
            len(bids),
            id=pa.array([bid for bid, _, _ in bids], TEXT),
            profile_id=pa.concat_arrays([_group_names([g for _, g, _ in of_profiles]), pa.array([""] * len(of_clients), TEXT)]),
            job_id=pa.array([""] * count + [_client(group) for _, group, _ in of_clients], TEXT),
            submitted_at=_times([at for _, _, at in bids]),
        )
        known = _table(
            RAW_BID_OUTCOMES,
            len(outcomes),
            id=pa.array([row for row, _, _, _ in outcomes], TEXT),
            bid_id=pa.array([bid for _, bid, _, _ in outcomes], TEXT),
            is_success=pa.array([won for _, _, won, _ in outcomes], pa.bool_()),
            outcome_timestamp=_times([moment for _, _, _, moment in outcomes]),
        )
        return pa.concat_tables([others, self._asked]), known


def _copies(
    mark: str,
    owners: Sequence[str],
    bids: Sequence[tuple[str, str, int]],
    outcomes: Sequence[tuple[str, str, str, bool, int]],
) -> tuple[list[tuple[str, int, int]], list[tuple[str, str, bool, int]]]:
    """Bids (id, group, time) and outcomes (id, bid, result, time) of each owner, once for each group that `owners` says is its."""
    groups_of: dict[str, list[int]] = {}
    for group, owner in enumerate(owners):
        groups_of.setdefault(owner, []).append(group)
    return (
        [(f"{mark}{g}/{bid}", g, at) for bid, owner, at in bids for g in groups_of.get(owner, ())],
        [(row, f"{mark}{g}/{bid}", won, known) for row, bid, owner, won, known in outcomes for g in groups_of.get(owner, ())],
    )


def _table(schema: pa.Schema, rows: int, **columns: pa.Array) -> pa.Table:
    """A table of the schema; what is not given is null."""
    return pa.Table.from_arrays(
        [columns.get(field.name, pa.nulls(rows, field.type)) for field in schema],
        schema=pa.schema([f.remove_metadata() for f in schema]),
    )


def _replaced(rows: pa.Table, schema: pa.Schema, **columns: pa.Array) -> pa.Table:
    return pa.Table.from_arrays([columns.get(f.name) if f.name in columns else rows[f.name] for f in schema], schema=schema)


def _json(value: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except (
        TypeError
    ):  # an integer of more than 64 bits, or half of a surrogate pair: rubbish as rows of the database have it too
        return json.dumps(value)


def _client(group: int) -> str:
    return f"\x1fclient{group}"


def _group_names(groups: Sequence[int]) -> pa.Array:
    return pa.array([f"\x1fprofile{group}" for group in groups], TEXT)


def _times(microseconds: Sequence[int] | npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(microseconds, pa.int64()).cast(TIME)


def _one(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) and found.num_chunks else found
