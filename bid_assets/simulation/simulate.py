"""A simulated market of a given length: its tables as they stand at its end, and what only the simulation knows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TIME
from bid_assets.common.progress import ProgressCallback, report_progress
from bid_assets.simulation.options import MarketplaceOptions
from bid_assets.simulation.weeks import BIDS, JOBS, OUTCOMES, TRUTH, market_weeks, profile_table


@dataclass(frozen=True)
class Marketplace:
    """The application's tables at the end of the simulation, and what the platform must not see."""

    options: MarketplaceOptions
    profiles: pa.Table
    jobs: pa.Table
    bids: pa.Table
    outcomes: pa.Table
    """Those known before the end, corrections included."""
    later_outcomes: pa.Table
    """Outcomes of the same bids that become known at the end or after it; they have not happened yet."""
    truth: pa.Table
    """One row for each bid, with the schema `weeks.TRUTH`."""


def simulate(options: MarketplaceOptions, progress: ProgressCallback = report_progress) -> Marketplace:
    """The market of these options. Equal options give equal tables; more weeks at the same rate and start only add to them."""
    weeks = []
    for week in islice(market_weeks(options), options.weeks):
        weeks.append(week)
        progress("simulating weeks", len(weeks), options.weeks)
    outcomes = pa.concat_tables([OUTCOMES.empty_table(), *(week.outcomes for week in weeks)])
    known_before_end = pc.less(outcomes["outcome_timestamp"], pa.scalar(options.end, TIME))
    bids = pa.concat_tables([BIDS.empty_table(), *(week.bids for week in weeks)])
    past_outcomes = outcomes.filter(known_before_end)
    return Marketplace(
        options=options,
        profiles=profile_table(options, weeks[-1].profiles),
        jobs=pa.concat_tables([JOBS.empty_table(), *(week.jobs for week in weeks)]),
        bids=_with_status(bids, past_outcomes),
        outcomes=past_outcomes,
        later_outcomes=outcomes.filter(pc.invert(known_before_end)),
        truth=pa.concat_tables([TRUTH.empty_table(), *(week.truth for week in weeks)]),
    )


def _with_status(bids: pa.Table, outcomes: pa.Table) -> pa.Table:
    """The bids with the status that the application shows: the latest word on each."""
    latest = outcomes.sort_by([("outcome_timestamp", "descending"), ("id", "ascending")])
    success = latest["is_success"].take(pc.index_in(bids["id"], value_set=latest["bid_id"]))
    status = pc.fill_null(pc.if_else(success, "accepted", "declined"), "submitted")
    return bids.set_column(bids.schema.get_field_index("status"), bids.schema.field("status"), status)
