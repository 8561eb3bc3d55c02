"""What all assets share: owners, the policy of range runs, pools."""

from __future__ import annotations

import warnings

import dagster as dg

# Range runs rest on `backfill_policy`, which is beta in Dagster 1.13; the tests of the IO managers pin what we need of it.
warnings.filterwarnings("ignore", message=r".*`backfill_policy`.*", category=dg.BetaWarning)

OWNERS = ["team:bid-success"]
RANGE_RUN = dg.BackfillPolicy.single_run()
"""A range of windows runs as one run, in one pass; the IO manager cuts the result by time."""

RETRAINING_POOL = "retraining"
"""The concurrency pool of everything from dataset to deployment: one run of it at a time (limit in dagster.yaml)."""

REFRESH_POOL = "refresh"
"""The pool of what reads raw tables or computes features: of two runs over one window the older snapshot never wins."""
