"""The simulated market lives on: what happens next is written into the application's database, never ahead of the present.

How far the market was played is not written down: it is the last thing that has happened in the database. A step is one
transaction and writes only what is not there yet. So a player that was killed, wherever it was, is followed by one that loses
and doubles nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from psycopg2.extras import execute_values

from bid_assets.app_db.connections import engine
from bid_assets.common.progress import ProgressCallback, report_progress
from bid_assets.common.windows import datetime_from_microseconds, microseconds_since_epoch, utc_now
from bid_assets.simulation.timeline import MOMENT, TABLES, Timeline
from bid_assets.simulation.truth import options_of, read_truth, replace_truth
from bid_assets.simulation.write import lock_market

STEP_SECONDS = 1.0
"""Real time between two steps."""

_MINUTES_A_DAY = 1440
_CHECKED_BIDS = 1000
_ROWS_AT_A_TIME = 1000
_CREATE = "make a market with `bid-assets marketplace create`"

_CONFLICT = dict.fromkeys(TABLES, "DO NOTHING") | {
    "profiles": """DO UPDATE SET skills = excluded.skills, updated_at = excluded.updated_at
        WHERE coalesce(profiles.updated_at, '-infinity') < excluded.updated_at"""
}
_UPDATE_BID_STATUS = """
    UPDATE bids SET status = latest.status FROM (
        SELECT DISTINCT ON (bid_id) bid_id, CASE WHEN is_success THEN 'accepted' ELSE 'declined' END AS status
        FROM bid_outcomes WHERE bid_id = ANY(%s) ORDER BY bid_id, outcome_timestamp DESC, id COLLATE "C"
    ) AS latest
    WHERE bids.id = latest.bid_id AND bids.status IS DISTINCT FROM latest.status"""


class NotPlayableError(RuntimeError):
    """The database holds no simulated market that can be played on; the message says why, and what to do."""


@dataclass(frozen=True)
class RowCounts:
    """How many rows a player has written."""

    jobs: int = 0
    bids: int = 0
    outcomes: int = 0


class LiveMarket:
    """The simulated market of a database, and what is to come in it. Made by `open_market`."""

    def __init__(self, connection: sa.Connection, timeline: Timeline, truth_folder: Path, truth_rows: int) -> None:
        """Finds out where the market stands. Raises `NotPlayableError` if the database does not hold this one."""
        self._connection, self._timeline = connection, timeline
        self._folder, self._truth_rows = truth_folder, truth_rows
        with self._transaction() as cursor:
            _check(cursor, timeline)
            self._at = _last_moment(cursor, timeline)
        timeline.drop_before(self._at)
        self.row_counts = RowCounts()

    @property
    def at(self) -> datetime:
        """The market's own time: all that happens before it is in the database."""
        return datetime_from_microseconds(self._at)

    def advance(self, to: datetime) -> None:
        """Write all that happens before `to`, in one transaction.

        If that fails nothing of it is there, and it may be tried again.
        """
        until = max(self._at, microseconds_since_epoch(to))
        rows = self._timeline.rows_before(until)
        self._extend_truth(until)
        if any(len(table) for table in rows.values()):
            with self._transaction() as cursor:
                _write(cursor, rows)
        self._timeline.drop_before(until)
        self._at = until
        past = self.row_counts
        self.row_counts = RowCounts(
            past.jobs + len(rows["jobs"]), past.bids + len(rows["bids"]), past.outcomes + len(rows["bid_outcomes"])
        )

    def _extend_truth(self, until: int) -> None:
        """Before the bids are there: no bid may be in the database of which the truth does not know."""
        truth = self._timeline.truth(until)
        if len(truth) > self._truth_rows:
            replace_truth(truth, self._timeline.options, self._folder)
            self._truth_rows = len(truth)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._connection.begin():
            cursor: Any = self._connection.connection.cursor()
            yield cursor


@contextmanager
def open_market(url: str, truth_folder: Path, progress: ProgressCallback = report_progress) -> Iterator[LiveMarket]:
    """The simulated market that `write.write` put into this database and this folder, for this process alone to play.

    Raises `FileNotFoundError` where there is no truth, `NotPlayableError` where the tables are not those of that truth, and
    `MarketInUseError` while somebody else plays.
    """
    truth = read_truth(truth_folder)
    db_engine = engine(url)
    try:
        missing = set(TABLES) - set(sa.inspect(db_engine).get_table_names())
        if missing:
            raise NotPlayableError(f"the application's database has no table {min(missing)}; {_CREATE}")
        with db_engine.connect() as connection:
            with connection.begin():
                lock_market(connection.connection.cursor(), until="session")
            timeline = Timeline(options_of(truth), progress)
            yield LiveMarket(connection, timeline, truth_folder, len(truth))
    finally:
        db_engine.dispose()


def check_speed(days_per_minute: float) -> None:
    """Raises `ValueError` for a speed at which no market can be played."""
    if not (math.isfinite(days_per_minute) and days_per_minute > 0):
        raise ValueError(f"speed: {days_per_minute:g} days a minute; it must be a number above 0, such as 7")


def moments(
    at: datetime,
    days_per_minute: float,
    until: datetime | None,
    wait: Callable[[float], bool],
    now: Callable[[], datetime] = utc_now,
) -> Iterator[tuple[datetime, bool]]:
    """The market's times to advance to, step by step, from `at` on, and for each whether it is the present.

    Ends at `until`, or when `wait`, which lets so many seconds of real time pass, returns True. No time lies after the present:
    a market that has caught up lives on in real time. Raises `ValueError` for a bad speed, `NotPlayableError` if `at` has not
    come yet.
    """
    check_speed(days_per_minute)
    before = now()
    if at > before:
        raise NotPlayableError(f"the market stands at {at:%Y-%m-%d %H:%M} UTC, which has not come yet; wait, or {_CREATE}")
    while (until is None or at < until) and not wait(STEP_SECONDS):
        present = now()
        passed = max(0.0, (present - before).total_seconds()) * days_per_minute * _MINUTES_A_DAY
        left = (present if until is None else min(present, until)) - at
        at += max(timedelta(0), min(left, timedelta(seconds=min(passed, left.total_seconds()))))
        before = present
        yield at, at >= present


def _check(cursor: Any, timeline: Timeline) -> None:
    """See whether the newest of the created bids are in the database; one is enough, as somebody may have tried out changes."""
    newest = timeline.created_bids.slice(max(0, len(timeline.created_bids) - _CHECKED_BIDS))
    columns = ["id", "profile_id", "submitted_at"]
    cursor.execute(f"SELECT {', '.join(columns)} FROM bids WHERE id = ANY(%s)", (newest["id"].to_pylist(),))
    if not set(_rows(newest.select(columns))) & set(cursor.fetchall()):
        raise NotPlayableError(
            f"the application's database does not hold the simulated market of this folder: of its {len(newest)} newest bids "
            f"when it was created none is in table bids; {_CREATE} --replace"
        )


def _last_moment(cursor: Any, timeline: Timeline) -> int:
    """The moment after the last one of which something is in the database, in microseconds since 1970; not before the created
    end.

    Every week has a job. So where all of a week's jobs are missing, no later week has begun.
    """
    last = timeline.end
    while pc.any(_present(cursor, "jobs", timeline.simulate_next_week())).as_py():
        pass
    for name in ("jobs", "bids", "bid_outcomes"):
        moments = timeline.pending[name].filter(_present(cursor, name, timeline.pending[name]))[MOMENT]
        if len(moments):
            last = max(last, pc.max(moments).as_py() + 1)
    return last


def _present(cursor: Any, name: str, rows: pa.Table) -> pa.BooleanArray:
    """Which of these rows are in the database, by their ids."""
    cursor.execute(f"SELECT id FROM {name} WHERE id = ANY(%s)", (rows["id"].to_pylist(),))
    return pc.is_in(rows["id"], value_set=pa.array([str(row[0]) for row in cursor], pa.string()))


def _write(cursor: Any, rows: dict[str, pa.Table]) -> None:
    """What the application would do: add rows, change profiles, and give bids the status that their outcomes tell."""
    for name, table in rows.items():
        statement = f"INSERT INTO {name} ({', '.join(table.column_names)}) VALUES %s ON CONFLICT (id) {_CONFLICT[name]}"
        execute_values(cursor, statement, _rows(table), page_size=_ROWS_AT_A_TIME)
    cursor.execute(_UPDATE_BID_STATUS, (rows["bid_outcomes"]["bid_id"].to_pylist(),))


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
