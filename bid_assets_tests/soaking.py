"""Weeks of a living market under a loop that is disturbed all the time, for the soak test and the soak benchmark."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from pathlib import Path

import psutil
import psycopg2
from sqlalchemy.exc import OperationalError

from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.snapshot_reader import open_snapshot
from bid_assets.orchestration.first_window import span_of_windows, with_first_window
from bid_assets.orchestration.refresh.change_detection import compare_fingerprints, recorded_fingerprints
from bid_assets.orchestration.refresh.planning import plan_refreshes, read_windows
from bid_assets.orchestration.retraining.state import gather_state
from bid_assets.orchestration.run_history import (
    REFRESH_KINDS,
    RETRAINING_KINDS,
    failures_in_a_row,
    finished_runs,
    unresolved_failures,
)
from bid_assets_tests.loops import PATIENCE, Loop, eventually

EVERY = 6.0
"""Seconds between two disturbances: about as long as a run of the loop takes."""


class Disturbance(Enum):
    """What happens to the rows or the parts while the loop turns."""

    EDIT_BIDS = "update bids set generated_bid_text = generated_bid_text || ' (edited)' where id in "
    """Of some bids, anywhere in history."""
    DELETE_OUTCOMES = "delete from bid_outcomes where bid_id in "
    BACK_DATED_BID = "back-dated bid"
    BID_BEFORE_ALL_OTHERS = "bid before all others"
    NEW_JOB = "new job"
    KILL_CODE_SERVER_CHILD = "api grpc"
    KILL_DAEMON = "dagster-daemon"
    HANG_SERVICE = "serve"
    HANG_DAEMON = "dagster-daemon run"


_SOME_BIDS = (
    "(select id from bids where profile_id in (select id from profiles) and submitted_at < '{end}' order by md5(id "
    "|| '{salt}') limit 3)"
)
_COPY_OF_A_BID = (
    "insert into bids (id, profile_id, job_id, amount, generated_bid_text, submitted_at) select 'late-' || '{salt}', "
    "profile_id, {job}, amount, generated_bid_text, {at} from bids where amount > 0 and profile_id in (select id from "
    "profiles) order by submitted_at limit 1"
)


def soak(loop: Loop, *, weeks: int, days_a_minute: float, disturbances: Sequence[Disturbance]) -> Counter[Disturbance]:
    """Play so many weeks of the market after its end, and disturb the loop until they are over, each way in its turn;
    how often."""
    player = loop.start(
        str(Path(sys.executable).with_name("bid-assets")),
        *("marketplace", "play", "--speed", str(days_a_minute), "--until", f"{loop.end + timedelta(weeks=weeks):%Y-%m-%d}"),
    )
    deadline = time.monotonic() + PATIENCE + 60 * weeks * 7 / days_a_minute
    number, counts = 0, Counter[Disturbance]()
    while player.poll() is None or number < len(disturbances):
        assert time.monotonic() < deadline, "the market was not played to its end"
        with suppress(psycopg2.OperationalError, OperationalError):  # PostgreSQL itself is never disturbed, but may be slow
            disturb(loop, disturbances[number % len(disturbances)], str(number))
            counts[disturbances[number % len(disturbances)]] += 1
            number += 1
        with suppress(subprocess.TimeoutExpired):
            player.wait(EVERY)
            time.sleep(1)
    assert player.returncode == 0, f"`marketplace play` ended with {player.returncode}"
    return counts


def disturb(loop: Loop, disturbance: Disturbance, salt: str) -> None:
    """One disturbance; `salt` chooses the rows."""
    some = _SOME_BIDS.format(end=loop.end.isoformat(), salt=salt)
    middle = f"timestamptz '{(loop.end - timedelta(weeks=3, hours=int(salt))).isoformat()}'"
    match disturbance:
        case Disturbance.EDIT_BIDS | Disturbance.DELETE_OUTCOMES:
            loop.sql(disturbance.value + some)
        case Disturbance.BACK_DATED_BID:
            loop.sql(_COPY_OF_A_BID.format(salt=salt, job="job_id", at=middle))
        case Disturbance.BID_BEFORE_ALL_OTHERS:
            at = f"(select min(submitted_at) from bids where id not like 'late-%') - interval '30 weeks {salt} hours'"
            loop.sql(_COPY_OF_A_BID.format(salt=salt, job="job_id", at=at))
        case Disturbance.NEW_JOB:
            loop.sql(f"insert into jobs (id, title, description) values ('late-{salt}', 'A new job', 'Posted during the soak')")
            loop.sql(_COPY_OF_A_BID.format(salt=salt, job=f"'late-{salt}'", at=middle))
        case Disturbance.KILL_CODE_SERVER_CHILD | Disturbance.KILL_DAEMON:
            _signal(loop, disturbance, signal.SIGKILL)
        case Disturbance.HANG_SERVICE | Disturbance.HANG_DAEMON:
            _signal(loop, disturbance, signal.SIGSTOP)


def _signal(loop: Loop, disturbance: Disturbance, number: signal.Signals) -> None:
    for process in loop.children(*disturbance.value.split()):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def changed_windows(loop: Loop) -> dict[str, set[str]]:
    """Table -> windows whose rows are not as the store has read them."""
    settings = with_first_window(loop.settings, loop.store)
    with open_snapshot(app_db_url(settings), cadence=settings.cadence) as snapshot:
        return compare_fingerprints(recorded_fingerprints(loop.store), snapshot.fingerprints(span_of_windows(settings)))


def left_undone(loop: Loop) -> list[str]:
    """What the loop has still to do, in words: runs, outcomes not learned, stale or absent features, failures without a
    success."""
    if not loop.quiet():
        return ["a run in flight"]
    if changed := changed_windows(loop):
        return [f"rows not read: {changed}"]
    settings = with_first_window(loop.settings, loop.store)
    state = gather_state(loop.instance, loop.store, loop.settings)
    refreshes = plan_refreshes(settings, loop.store, {}, check=read_windows(loop.store))
    failed = [
        *unresolved_failures(finished_runs(loop.instance, REFRESH_KINDS)),
        *failures_in_a_row(finished_runs(loop.instance, RETRAINING_KINDS)),
    ]
    counts = loop.outcomes_in_the_store(), loop.outcomes_in_the_database()
    undone = {
        "no active model": state.active_model is None,
        f"{state.outcomes_since_last_dataset} outcomes in no dataset": state.outcomes_since_last_dataset > 0,
        f"stale or absent features: {refreshes}": bool(refreshes),
        f"failed: {[(run.run_id, run.kind, run.first, run.last) for run in failed]}": bool(failed),
        "outcomes: {} in the store, {} in the database".format(*counts): counts[0] != counts[1],
    }
    return [words for words, holds in undone.items() if holds]


def nothing_left_undone(loop: Loop, seconds: float = PATIENCE) -> None:
    """Wait for it; fails with what is left."""
    undone: list[str] = []

    def done() -> bool:
        undone[:] = left_undone(loop)
        return not undone

    eventually(done, seconds, lambda: f"nothing left undone; now: {'; '.join(undone)}")
