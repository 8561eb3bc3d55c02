"""The loop as a user starts it, for tests: `bid-assets up` over a home of its own, and what may be asked of it from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import psutil
import psycopg2
from sqlalchemy.exc import OperationalError

from bid_assets.app_db.database import app_db_url
from bid_assets.common.windows import Cadence, utc_now
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.run_history import LoopRun, RunKind, latest_runs
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.conftest import CHECKOUT, SMALL_MARKET
from bid_assets_tests.platforms import call, call_json

T = TypeVar("T")

HOUR = timedelta(hours=1)

PATIENCE = 240.0
"""Seconds to wait for anything: far more than it takes, since nothing is to be said about the machine."""

QUICK = {
    "LOOKBACK_WINDOWS": 6,
    "ENCODER": "static",
    "SENSOR_INTERVAL_SECONDS": 5,
    "RECONCILIATION_INTERVAL_MINUTES": 0.1,
    "RETRAIN_MIN_NEW_OUTCOMES": 1,
    "RETRAIN_MIN_INTERVAL_MINUTES": 0,
    "RETRY_PAUSE_SECONDS": 1,
    **SMALL_MARKET,
}
"""Settings with which the loop turns at once, and again and again."""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def eventually(ask: Callable[[], T | None], seconds: float = PATIENCE, what: str | Callable[[], str] = "") -> T:
    """What `ask` answers at last, however PostgreSQL fares meanwhile; fails with `what` was waited for, asked in the end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OperationalError, psycopg2.OperationalError):
            if answer := ask():
                return answer
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s: {(what() if callable(what) else what) or ask}")


def ended_market(weeks_ago: int) -> datetime:
    """The Monday so many weeks before this week's: where the market of a test ends, with closed windows after it to land in."""
    return Cadence.WEEKLY.floor(utc_now()) - timedelta(weeks=weeks_ago)


@dataclass
class Loop:
    """A platform in `home`, turned by processes of its own."""

    settings: Settings
    instance: dg.DagsterInstance
    end: datetime
    """Of its market: all windows from here on are empty at first."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0
    """Of the web server."""
    service_port: int = 0
    """Of the prediction service."""

    @property
    def store(self) -> VersionStore:
        return VersionStore(self.settings.resolved_store_url)

    def window(self, weeks_after_the_end: int) -> str:
        return Cadence.WEEKLY.key(self.end + timedelta(weeks=weeks_after_the_end))

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A child with signals as a terminal would give them, in a group of its own (FACTS 19)."""
        log = (self.settings.home / "test-processes.log").open("ab")
        process = subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def up(self) -> subprocess.Popen[bytes]:
        self.port, self.service_port = free_port(), free_port()
        return self.start(
            str(Path(sys.executable).with_name("bid-assets")),
            "up",
            "--port",
            str(self.port),
            "--service-port",
            str(self.service_port),
        )

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        self.processes.clear()
        while (left := self.child("dagster")) is not None:  # the code server of a killed daemon
            left.kill()
            left.wait(10)

    def children(self, *words: str) -> list[psutil.Process]:
        """All processes of this home whose command line has all of these words."""
        matching = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if all(word in line for word in words) and process.environ().get("BID_ASSETS_HOME") == str(self.settings.home):
                    matching.append(process)
        return matching

    def child(self, *words: str) -> psutil.Process | None:
        """One of them."""
        return next(iter(self.children(*words)), None)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(app_db_url(self.settings))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def decide(self, count: int, *moments: datetime) -> list[str]:
        """So many outcomes of undecided bids at each of these moments, in one transaction; the ids of the bids."""
        undecided = self.sql(
            "select b.id from bids b join profiles p on p.id = b.profile_id where b.amount > 0 and b.submitted_at < "
            f"'{self.end.isoformat()}' and b.submitted_at >= '{(self.end - timedelta(weeks=2)).isoformat()}' "
            "and not exists (select from bid_outcomes o where o.bid_id = b.id) order by b.id "
            f"limit {count * len(moments)}"
        )
        ids = [str(row[0]) for row in undecided]
        values = [
            f"('late-{bid}', '{bid}', {str(number % 2 == 0).lower()}, '{moments[number % len(moments)].isoformat()}')"
            for number, bid in enumerate(ids)
        ]
        self.sql(f"insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) values {', '.join(values)}")
        return ids

    def runs(self, *kinds: RunKind) -> list[LoopRun]:
        """Newest first."""
        return latest_runs(self.instance, kinds or tuple(RunKind), 100)

    def quiet(self) -> bool:
        """Whether nothing is in flight."""
        return all(run.ended_at is not None for run in self.runs())

    def head(self, asset: str, window: str) -> Manifest | None:
        return self.store.head(asset, window)

    def versions(self) -> dict[str, int]:
        return {asset: len(self.store.versions(asset)) for asset in self.store.assets()}

    def outcomes_in_the_database(self) -> int:
        return int(self.sql("select count(*) from bid_outcomes")[0][0])

    def outcomes_in_the_store(self) -> int:
        """Those that the platform has read, and those that it has set aside."""
        store = self.store
        read = store.heads("raw_bid_outcomes", store.partitions("raw_bid_outcomes")).values()
        rejected = store.heads("rejected_rows", store.partitions("rejected_rows")).values()
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        aside = sum(
            pc.sum(
                pc.equal(pq.read_table(store.fetch(head), columns=["table"], partitioning=None)["table"], "bid_outcomes")
            ).as_py()
            or 0
            for head in rejected
            if head.rows
        )
        return sum(head.rows or 0 for head in read) + aside

    def labels(self, window: str) -> dict[str, bool]:
        """Bid -> label, in the dataset of a window."""
        head = self.head("training_dataset", window)
        assert head is not None
        import pyarrow.parquet as pq

        table = pq.read_table(self.store.fetch(head), columns=["bid_id", "target_is_success"], partitioning=None)
        return dict(zip(table["bid_id"].to_pylist(), table["target_is_success"].to_pylist(), strict=True))


@contextmanager
def loop_in(
    folder: Path,
    static_encoder: Path,
    *,
    weeks_to_play: int = 6,
    weeks: int = 8,
    bids: int = 3000,
    first_run: bool = True,
    **values: object,
) -> Iterator[Loop]:
    """A market that ended some weeks ago, the main job run over it (`first_run`), and nothing started yet.

    `values` are more settings; `folder` must be open to others."""
    import pytest

    home = folder / "home"
    home.mkdir()
    (home / "encoders").symlink_to(static_encoder.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BID_ASSETS_HOME", str(home))
        patch.setenv("DAGSTER_HOME", str(CHECKOUT))
        for name in ("APP_DB_URL", "DAGSTER_DB_URL"):
            patch.delenv(f"BID_ASSETS_{name}", raising=False)
        for name, value in {**QUICK, **values}.items():
            patch.setenv(f"BID_ASSETS_{name}", str(value))
        get_settings.cache_clear()
        end = ended_market(weeks_to_play)
        call("marketplace", "create", "--weeks", str(weeks), "--bids", str(bids), "--end", f"{end:%Y-%m-%d}")
        if first_run:
            assert call_json("run")["active_model"] is not None
        with open_instance() as instance:
            loop = Loop(get_settings(), instance, end)
            try:
                yield loop
            finally:
                loop.stop()
        get_settings.cache_clear()


def sensors_have_looked(loop: Loop) -> bool:
    names = {"new_outcomes_sensor", "reconciliation_sensor", "retraining_sensor"}
    states = [state for state in loop.instance.all_instigator_state() if state.name in names]
    return len(states) == 3 and all(
        any(
            tick.status.value in ("SUCCESS", "SKIPPED")  # one that has only begun may see what comes next, or not
            for tick in loop.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2)
        )
        for state in states
    )


def new_runs(loop: Loop, before: list[LoopRun], kind: RunKind) -> list[LoopRun]:
    known = {run.run_id for run in before}
    return [run for run in loop.runs(kind) if run.run_id not in known]


def decided_again(loop: Loop, before: list[LoopRun]) -> None:
    """Wait until the outcomes of now have become a decision, and nothing is in flight any more."""

    def done() -> bool:
        runs = new_runs(loop, before, RunKind.RETRAINING)
        return bool(runs) and runs[0].status is dg.DagsterRunStatus.SUCCESS and loop.quiet()

    eventually(done, what="a retraining after the outcomes")
