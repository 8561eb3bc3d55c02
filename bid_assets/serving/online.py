"""Features of bids to be, from the very functions that training uses, over the application's database as of each bid's time.

The rows that the families would see of a past bid are put together for the bids asked about (`raw_rows.py`): nothing of a
feature is computed here. So what is served equals what was trained on, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa

from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.lookup import Lookup
from bid_assets.features.encoder import make_encoder
from bid_assets.features.families import families
from bid_assets.serving.raw_rows import RawRows
from bid_assets.serving.requests import BidToBe
from bid_assets.settings import Settings
from bid_assets.windows import TimeRange, as_utc

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class OnlineBatch:
    """Features of some bids, in their order."""

    columns: dict[str, pa.Array]
    """The features of all families by name, of as many rows as there are bids; null where something is unknown."""
    missing: list[list[str]]
    """Of each bid what was not there, in words."""
    as_of: list[datetime]
    newest_outcome: list[datetime | None]
    """The newest outcome of the profile that was known then: how fresh its history is."""

    @cached_property
    def table(self) -> pa.Table:
        """The features as a table."""
        return pa.table(self.columns)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The same as plain values, vectors as arrays; for few bids quicker than a table."""
        columns = [_plain(column) for column in self.columns.values()]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*columns, strict=True)]


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
        rows = RawRows(bids, times, found, [self._cadence.floor(at) for at in times])
        span = TimeRange(self._cadence.floor(min(times)), max(times) + _MICROSECOND)
        columns: dict[str, pa.Array] = {}
        for family in families():
            columns |= rows.joined(family, family.compute(rows.tables(family), span, self.encoder))
        return OnlineBatch(columns, rows.missing(columns), times, rows.newest_outcomes())

    def close(self) -> None:
        """Close the connections."""
        self._lookup.close()


def _plain(column: pa.Array) -> Sequence[Any]:
    """The values of a column; a list of the numbers of a vector would take longer than all the rest."""
    if not isinstance(column, pa.FixedSizeListArray):
        return column.to_pylist()  # type: ignore[no-any-return]
    return [vector.values.to_numpy(zero_copy_only=False) if vector.is_valid else None for vector in column]
