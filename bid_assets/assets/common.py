"""What all assets share: groups, owners, and the time range of a run."""

from __future__ import annotations

import dagster as dg

from bid_assets.partitions import span_of
from bid_assets.windows import Cadence, TimeRange

OWNERS = ["team:bid-success"]
RANGE_RUN = dg.BackfillPolicy.single_run()
"""A range of windows runs as one run, in one pass; the IO manager cuts the result by time."""


def run_span(context: dg.AssetExecutionContext, cadence: Cadence) -> TimeRange:
    """The time range of all windows of this run."""
    return span_of(cadence, list(context.partition_keys))
