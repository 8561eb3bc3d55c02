"""`bid-assets up` that asks its parts more often than users need: python -m bid_assets_tests.impatient_up --port ..."""

from __future__ import annotations

import sys

from bid_assets import liveness, supervisor
from bid_assets.cli import main

supervisor.PROBE_SECONDS, supervisor.PROBE_DEADLINE = 0.5, 6.0
liveness.ANSWER_SECONDS = 5

if __name__ == "__main__":
    main(["up", *sys.argv[1:]])
