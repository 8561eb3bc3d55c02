"""What happens next in a simulated market, in the order of time: rows of its tables, each at the moment when it appears."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.common.progress import ProgressCallback, report_progress
from bid_assets.simulation.options import MarketplaceOptions
from bid_assets.simulation.weeks import BIDS, JOBS, OUTCOMES, PROFILES, MarketWeek, market_weeks, profile_table

TABLES = {"profiles": PROFILES, "jobs": JOBS, "bids": BIDS, "bid_outcomes": OUTCOMES}
"""What appears, in the order in which rows of one moment need each other. In `profiles` a row is a newcomer, or somebody
known who has learnt a skill."""

MOMENT = "moment"
"""The column that says when a row appears: microseconds since 1970. Mostly the row's own time; but a row whose time was spoiled
appears where it did in truth, and no outcome appears before its bid."""


class Timeline:
    """A market from the end of its created weeks on, made week by week as far as somebody looks ahead.

    What comes before the end of any later week, added to the created tables, gives the tables that `simulate` makes of so many
    weeks: new rows are added, changed profiles replaced, and a bid's status follows its outcomes.
    """

    def __init__(self, options: MarketplaceOptions, progress: ProgressCallback = report_progress) -> None:
        """Goes through the created weeks first."""
        self.options = options
        self.pending = {name: _by_moment(schema.empty_table(), pa.array([], pa.int64())) for name, schema in TABLES.items()}
        """What has been made and has not happened yet."""
        self._weeks = market_weeks(options)
        self._profiles = PROFILES.empty_table()
        self._truth: list[pa.Table] = []
        for week in range(options.weeks):
            simulated = self._add(next(self._weeks))
            progress("remembering weeks", week + 1, options.weeks)
        self._profiles = profile_table(options, simulated.profiles)
        self.created_bids = self.rows_before(self.end)["bids"]
        self.drop_before(self.end)

    @property
    def end(self) -> int:
        """The end of the last week made, in microseconds since 1970."""
        return self.options.microseconds(len(self._truth))

    def simulate_next_week(self) -> pa.Table:
        """Make one more week; its jobs, of which there is at least one."""
        week = self._add(next(self._weeks))
        after = profile_table(self.options, week.profiles)
        self._add_pending("profiles", *_changed(self._profiles, after))
        self._profiles = after
        return week.jobs

    def rows_before(self, until: int) -> dict[str, pa.Table]:
        """What is to come before `until` (microseconds since 1970), table by table, in the order of time."""
        while self.end < until:
            self.simulate_next_week()
        pending = {name: table.filter(pc.less(table[MOMENT], until)) for name, table in self.pending.items()}
        order = [(MOMENT, "ascending"), ("id", "ascending")]
        return {name: table.sort_by(order).drop_columns(MOMENT) for name, table in pending.items()}

    def drop_before(self, until: int) -> None:
        """All that comes before `until` has happened."""
        self.pending = {name: table.filter(pc.greater_equal(table[MOMENT], until)) for name, table in self.pending.items()}

    def truth(self, until: int) -> pa.Table:
        """The truth of all weeks that begin before `until`, which were simulated."""
        return pa.concat_tables(table for week, table in enumerate(self._truth) if self.options.microseconds(week) < until)

    def _add(self, week: MarketWeek) -> MarketWeek:
        start = pa.scalar(self.options.microseconds(len(self._truth)), pa.int64())
        submitted = pc.fill_null(pc.fill_null_forward(week.bids["submitted_at"].cast(pa.int64())), start)
        bid_appears = pc.fill_null(submitted.take(pc.index_in(week.outcomes["bid_id"], value_set=week.bids["id"])), start)
        known_at = pc.max_element_wise(week.outcomes["outcome_timestamp"].cast(pa.int64()), bid_appears)
        self._add_pending("jobs", week.jobs, week.jobs["posted_at"].cast(pa.int64()))
        self._add_pending("bids", week.bids, submitted)
        self._add_pending("bid_outcomes", week.outcomes, known_at)
        self._truth.append(week.truth)
        return week

    def _add_pending(self, name: str, rows: pa.Table, moments: pa.Array | pa.ChunkedArray) -> None:
        self.pending[name] = pa.concat_tables([self.pending[name], _by_moment(rows, moments)])


def _changed(before: pa.Table, after: pa.Table) -> tuple[pa.Table, pa.Array]:
    """The profiles that joined or learnt in a week, as they are at its end, and when. Nobody does both, or one twice."""
    updated, updated_before = (table["updated_at"].cast(pa.int64()).fill_null(-1).to_numpy() for table in (after, before))
    joined = np.arange(len(after)) >= len(before)
    changed = joined.copy()
    changed[: len(before)] = updated[: len(before)] != updated_before
    moments = np.where(joined, after["created_at"].cast(pa.int64()).to_numpy(), updated)
    return after.filter(pa.array(changed)), pa.array(moments[changed])


def _by_moment(rows: pa.Table, moments: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.append_column(MOMENT, moments)
