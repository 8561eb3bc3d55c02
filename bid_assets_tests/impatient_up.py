"""`bid-assets up` that asks its parts more often than users need: python -m bid_assets_tests.impatient_up --port ..."""

from __future__ import annotations

import sys

from bid_assets.cli import main, supervisor
from bid_assets.orchestration import liveness

supervisor.FIRST_PROBE_INTERVAL, supervisor.PROBE_INTERVAL = 0.2, 0.5
supervisor.PROBE_TIMEOUT, supervisor.STARTUP_TIMEOUT = 6.0, 90.0
liveness.ANSWER_SECONDS = 5

if __name__ == "__main__":
    main(["up", *sys.argv[1:]])
