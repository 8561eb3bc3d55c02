"""Dagster's daemon, which is killed as by SIGKILL at a chosen moment of new_outcomes_sensor's first tick with a request.

python -m bid_assets_tests.faulty_daemon after-the-evaluation | before-the-cursor
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dagster._daemon.cli import main
from dagster._daemon.sensor import SensorLaunchContext

MOMENTS = {
    "after-the-evaluation": "set_run_requests",
    "before-the-cursor": "update_state",
}
"""The sensor has answered and nothing is saved yet; runs are submitted and the cursor is not written yet."""


def dying(method: Callable[..., Any]) -> Callable[..., Any]:
    def instead(self: SensorLaunchContext, *arguments: Any, **options: Any) -> Any:
        asked = method.__name__ == "set_run_requests" or self.tick.run_ids
        if asked and self.tick.instigator_name == "new_outcomes_sensor":
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *arguments, **options)

    return instead


if __name__ == "__main__":
    name = MOMENTS[sys.argv.pop(1)]
    setattr(SensorLaunchContext, name, dying(getattr(SensorLaunchContext, name)))
    sys.argv[1:] = ["run", "-w", "workspace.yaml"]
    main()
