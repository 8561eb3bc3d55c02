"""Features of bids to be, from the very functions that training uses, over the application's database as of each bid's time.

The rows that the families would see of a past bid are put together for the bids asked about: nothing of a feature is computed
here. So what is served equals what was trained on, bit for bit. Bids asked about together do not see each other: each gets a
copy of its profile's history, unless they share profile and time (rows of equal time do not see each other anyway).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import RAW_BID_OUTCOMES, RAW_BIDS, RAW_JOBS, RAW_PROFILES
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
        """The features of `bids`, with one look-up however many they are. Raises `DatabaseUnreachable`, `ContractError`."""
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
        self._at = [_micros(at) for at in times]
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
        keys, there = self._asked["id" if family.key == "bid_id" else "job_id"].chunk(0), _one(rows[family.key])
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
            profile = self._found.profiles.get(bid.profile_id)
            if profile is None:
                words.append("profile unknown")
            elif profile["updated_at"] is not None and profile["updated_at"] >= self._at[number]:
                words.append("profile changed since")
            if bid.job is None and bid.job_id not in self._found.jobs:
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
            id=self._keys["bid"],
            profile_id=_group_names(self._group),
            job_id=self._keys["job"],
            amount=[bid.amount for bid in self._bids],
            generated_bid_text=[bid.bid_text for bid in self._bids],
            bid_settings_snapshot=settings,
            submitted_at=self._at,
        )

    def _raw_profiles(self) -> pa.Table:
        first = {group: number for number, group in reversed(list(enumerate(self._group)))}
        there = [group for group, name in enumerate(self._profile_of_group) if name in self._found.profiles]
        rows = [
            {**self._found.profiles[self._profile_of_group[group]], "id": name, "window": self._window_of(first[group])}
            for group, name in zip(there, _group_names(there), strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=RAW_PROFILES)

    def _raw_jobs(self) -> pa.Table:
        """One row for each bid whose job is known, from the database or from the caller; and one for each client's earlier jobs."""
        rows: list[dict[str, Any]] = []
        for number, bid in enumerate(self._bids):
            job = self._found.jobs.get(bid.job_id or "") if bid.job is None else _told(bid.job)
            if job is not None:
                client = None
                if job["client_id"] is not None:
                    group = (job["client_id"], self._at[number])
                    client = _client(self._client_groups.setdefault(group, len(self._client_groups)))
                asked = {"id": self._keys["job"][number], "window": self._window_of(number), "client_id": client}
                rows.append({**job, **asked})
        rows += [{"id": name, "window": 0, "client_id": name} for name in map(_client, self._client_groups.values())]
        return pa.Table.from_pylist(rows, schema=RAW_JOBS)

    def _window_of(self, number: int) -> int:
        return _micros(self._windows[number])

    def _raw_history(self) -> tuple[pa.Table, pa.Table]:
        """The bids asked about among the others of their profiles and clients, and the outcomes of these: a copy for each group.

        Copies for a client are all on one job of its own, and of no profile; copies for a profile are on no job.
        """
        found, clients = self._found, [name for name, _ in self._client_groups]
        of_profiles, their = _copies("", self._profile_of_group, found.bids, found.outcomes)
        of_clients, theirs = _copies("\x1fclient", clients, found.client_bids, found.client_outcomes)
        bids, outcomes = of_profiles + of_clients, their + theirs
        others = _table(
            RAW_BIDS,
            len(bids),
            id=[bid for bid, _, _ in bids],
            profile_id=[*_group_names([group for _, group, _ in of_profiles]), *[""] * len(of_clients)],
            job_id=[*[""] * len(of_profiles), *(_client(group) for _, group, _ in of_clients)],
            submitted_at=[at for _, _, at in bids],
        )
        known = _table(
            RAW_BID_OUTCOMES,
            len(outcomes),
            id=[row for row, _, _, _ in outcomes],
            bid_id=[bid for _, bid, _, _ in outcomes],
            is_success=[won for _, _, won, _ in outcomes],
            outcome_timestamp=[moment for _, _, _, moment in outcomes],
        )
        return pa.concat_tables([others, self._asked]).combine_chunks(), known


def _copies(
    mark: str, owners: Sequence[str], bids: Sequence[list[Any]], outcomes: Sequence[list[Any]]
) -> tuple[list[tuple[str, int, int]], list[tuple[str, str, bool, int]]]:
    """Bids (id, group, time) and outcomes (id, bid, result, time) of each owner, once for each group that `owners` says is its."""
    groups_of: dict[str, list[int]] = {}
    for group, owner in enumerate(owners):
        groups_of.setdefault(owner, []).append(group)
    return (
        [(f"{mark}{g}/{bid}", g, at) for bid, owner, at in bids for g in groups_of.get(owner, ())],
        [(row, f"{mark}{g}/{bid}", won, known) for row, bid, owner, won, known in outcomes for g in groups_of.get(owner, ())],
    )


def _table(schema: pa.Schema, rows: int, **columns: list[Any]) -> pa.Table:
    """A table of the schema; what is not given is null."""
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else _nulls(rows, field.type) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


@lru_cache(maxsize=1024)
def _nulls(rows: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(rows, kind)


def _told(job: JobText) -> dict[str, Any]:
    """A job that the caller has brought, as a row."""
    return {**vars(job), "posted_at": None if job.posted_at is None else _micros(as_utc(job.posted_at))}


def _json(value: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer of over 64 bits, or half of a surrogate pair: rubbish, as the database may have it too
        return json.dumps(value)


def _client(group: int) -> str:
    return f"\x1fclient{group}"


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _group_names(groups: Sequence[int]) -> list[str]:
    return [f"\x1fprofile{group}" for group in groups]


def _one(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) and found.num_chunks else found
