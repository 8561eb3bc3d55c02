"""The loop as a whole: `bid-assets up` with its daemon, web server and PostgreSQL; outcomes by plain SQL; and what came
of them.

The tests follow each other on one platform. After each: exactly the versions that there should be, no work done twice, and
as many outcomes in the store as in the database.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import httpx
import psutil
import pytest
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster_graphql import DagsterGraphQLClient

from bid_assets.deployments.events import active_model
from bid_assets.orchestration.jobs import CLOSE_WINDOW_JOB, RETRAIN_JOB
from bid_assets.orchestration.liveness import code_is_loaded
from bid_assets.orchestration.run_history import ATTEMPT_TAG, REASON_TAG, LoopRun, RunKind
from bid_assets.version_store.lineage import LineageNode, upstream
from bid_assets_tests.benchmarks import bench_loop, daily_year
from bid_assets_tests.loops import HOUR, PATIENCE, Loop, decided_again, eventually, loop_in, new_runs, sensors_have_looked
from bid_assets_tests.platforms import FAMILIES, RAW, RETRAINING_ASSETS, call, call_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WEEK = timedelta(weeks=1)


@pytest.fixture(scope="module")
def loop(static_encoder: Path) -> Iterator[Loop]:
    folder = Path(tempfile.mkdtemp(prefix="loop-"))
    folder.chmod(0o755)
    with loop_in(folder, static_encoder) as made:
        made.up()
        eventually(lambda: sensors_have_looked(made), what="first ticks of all sensors")
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nothing_lost(loop: Loop) -> Iterator[None]:
    yield
    eventually(lambda: loop.quiet(), what="no run in flight")
    assert loop.outcomes_in_the_store() == loop.outcomes_in_the_database()


def inputs_of(node: LineageNode) -> set[str]:
    return {node.ref.version}.union(*(inputs_of(child) for child in node.inputs))


@dataclass
class FirstTurn:
    """What was before the first new outcomes, and how long each part of the loop's answer to them took."""

    runs: list[LoopRun]
    answering_model: str
    service: psutil.Process | None
    seconds: dict[str, float]


def answering_model(loop: Loop) -> str:
    """The version of the model that answers the same request as ever."""
    [(profile, job)] = loop.sql(
        f"select profile_id, job_id from bids where amount > 0 and submitted_at < '{loop.end}' order by submitted_at desc "
        f"limit 1"
    )
    url = f"http://127.0.0.1:{loop.service_port}/predict"
    return str(httpx.post(url, json={"profile_id": profile, "job_id": job, "amount": 100}).json()["model_version"])


@pytest.fixture(scope="module")
def first_turn(loop: Loop) -> FirstTurn:
    runs, model, service = loop.runs(), answering_model(loop), loop.child("bid-assets", "serve")
    seconds = dict(zip(bench_loop.PARTS, bench_loop.one_turn(loop, 1), strict=True))
    decided_again(loop, runs)
    return FirstTurn(runs, model, service, seconds)


@pytest.mark.usefixtures("nothing_lost")
def test_outcomes_become_a_dataset_a_model_a_report_and_a_decision(loop: Loop, first_turn: FirstTurn) -> None:
    window = loop.window(0)
    if os.getloadavg()[0] < (os.cpu_count() or 1):  # on a machine that others keep busy, seconds say nothing
        assert first_turn.seconds["all"] < 60
    [refresh], [retraining] = (new_runs(loop, first_turn.runs, kind) for kind in (RunKind.REFRESH, RunKind.RETRAINING))
    assert f"bid_outcomes changed in window {window}" in refresh.tags[REASON_TAG]
    assert "5 new outcomes since the last dataset" in retraining.tags[REASON_TAG]
    model, outcomes = loop.head("trained_model", window), loop.head("raw_bid_outcomes", window)
    assert model is not None
    assert outcomes is not None
    assert outcomes.rows == 5
    assert outcomes.version in inputs_of(upstream(loop.store, model))
    bids = {bid for (bid,) in loop.sql("select bid_id from bid_outcomes where id like 'late-%'")}
    assert len(bids) == 5
    assert bids <= set(loop.labels(window))
    for asset in RETRAINING_ASSETS:
        assert len(loop.store.versions(asset, window)) == 1, asset


def test_the_same_request_is_answered_by_the_retrained_model_without_a_restart(loop: Loop, first_turn: FirstTurn) -> None:
    active = active_model(loop.store)
    assert active is not None
    assert active.model.version != first_turn.answering_model
    eventually(lambda: answering_model(loop) == active.model.version, what="an answer of the new model")
    assert loop.child("bid-assets", "serve") == first_turn.service


def test_the_benchmarks_of_the_loop_measure_a_turn_and_the_ticks(
    loop: Loop, first_turn: FirstTurn, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first_turn.seconds["all"] > first_turn.seconds["raw tables and features"] > 0
    monkeypatch.setattr(daily_year, "TICKS", 1)
    assert all(seconds > 0 for _, seconds in daily_year.ticks(loop))


@pytest.mark.usefixtures("nothing_lost")
def test_outcomes_in_four_windows_at_once_are_one_refresh_and_one_retraining(loop: Loop) -> None:
    before = loop.runs()
    loop.decide(2, *(loop.end + HOUR + week * WEEK for week in range(4)))
    decided_again(loop, before)
    [refresh] = new_runs(loop, before, RunKind.REFRESH)
    assert (refresh.first, refresh.last) == (loop.window(0), loop.window(3))
    [retraining] = new_runs(loop, before, RunKind.RETRAINING)
    assert retraining.first == loop.window(3)


@dataclass
class Amendment:
    """A back-dated correction of one bid's outcome and a deletion of another's, and labels before and after the loop's turn."""

    corrected: str
    outcome: bool
    deleted: str
    before: dict[str, bool]
    after: dict[str, bool]


@pytest.fixture(scope="module")
def amendment(loop: Loop) -> Amendment:
    runs, window = loop.runs(), loop.window(3)
    before = loop.labels(window)
    [(bid, outcome, at)] = loop.sql(
        "select bid_id, is_success, outcome_timestamp from bid_outcomes where id not like 'correction%' and outcome_timestamp "
        "< "
        f"'{loop.end.isoformat()}' and bid_id in (select id from bids where submitted_at > '{(loop.end - WEEK).isoformat()}') "
        "and bid_id not in (select bid_id from bid_outcomes group by bid_id having count(*) > 1) order by id limit 1"
    )
    [(deleted,)] = loop.sql(  # one transaction
        "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) "
        f"values ('fix', '{bid}', {not outcome}, '{at + timedelta(minutes=1)}'); "
        "delete from bid_outcomes where id = (select min(id) from bid_outcomes where id like 'late-%') returning bid_id"
    )
    decided_again(loop, runs)
    return Amendment(bid, outcome, deleted, before, loop.labels(window))


@pytest.mark.usefixtures("nothing_lost")
def test_a_back_dated_correction_flips_a_label_in_the_next_dataset(amendment: Amendment) -> None:
    flipped = {bid for bid, label in amendment.after.items() if amendment.before.get(bid) != label}
    assert flipped == {amendment.corrected}
    assert amendment.before[amendment.corrected] == amendment.outcome


def test_a_deleted_outcome_leaves_the_next_dataset(amendment: Amendment) -> None:
    assert set(amendment.before) - set(amendment.after) == {amendment.deleted}


@pytest.mark.usefixtures("nothing_lost")
def test_a_daemon_killed_during_the_run_loses_nothing_and_does_nothing_twice(loop: Loop) -> None:
    before, datasets = loop.runs(), len(loop.store.versions("training_dataset"))
    loop.decide(3, loop.end + 3 * WEEK + 2 * HOUR)
    eventually(lambda: new_runs(loop, before, RunKind.REFRESH), what="a refresh")
    daemon = loop.child("dagster", "daemon")
    assert daemon is not None
    daemon.send_signal(signal.SIGKILL)
    decided_again(loop, before)
    for kind in (
        RunKind.REFRESH,
        RunKind.RETRAINING,
    ):  # one that was being handed over just then never began, and was made good
        assert dg.DagsterRunStatus.SUCCESS in [run.status for run in new_runs(loop, before, kind)]
    assert len(loop.store.versions("training_dataset")) == datasets + 1


@pytest.mark.usefixtures("nothing_lost")
def test_a_refresh_that_fails_is_made_good(loop: Loop) -> None:
    before = loop.runs()
    loop.sql(
        "alter table jobs rename to jobs_elsewhere; create view jobs as select id, (1 / 0)::text title from jobs_elsewhere"
    )
    try:
        loop.decide(2, loop.end + 3 * WEEK + 3 * HOUR)
        failed = eventually(
            lambda: [run for run in new_runs(loop, before, RunKind.REFRESH) if run.status is dg.DagsterRunStatus.FAILURE],
            what="a failed refresh",
        )
        [told] = eventually(lambda: call_json("status")["failed_refreshes"])
        assert not told["slow"]
        assert "division by zero" in told["message"]
    finally:
        loop.sql("drop view jobs; alter table jobs_elsewhere rename to jobs")
    decided_again(loop, before)
    runs = new_runs(loop, before, RunKind.REFRESH)
    assert len(runs) > len(failed)
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS, *[dg.DagsterRunStatus.FAILURE] * (len(runs) - 1)]
    assert len(new_runs(loop, before, RunKind.RETRAINING)) == 1


@pytest.mark.usefixtures("nothing_lost")
def test_postgresql_may_die_under_it(loop: Loop) -> None:
    before = loop.runs()
    pid = int((loop.settings.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    psutil.Process(pid).kill()
    eventually(lambda: loop.decide(2, loop.end + 3 * WEEK + 4 * HOUR), what="a server to write to")
    decided_again(loop, before)
    done = eventually(lambda: new_runs(loop, before, RunKind.RETRAINING), what="the runs")
    assert len([run for run in done if run.status is dg.DagsterRunStatus.SUCCESS]) == 1


@pytest.mark.usefixtures("nothing_lost")
def test_a_window_is_closed_with_a_retraining_of_its_own_and_never_two_of_them_run_at_once(loop: Loop) -> None:
    before, window = loop.runs(), loop.window(3)
    web = DagsterGraphQLClient("127.0.0.1", port_number=loop.port)
    asked = [
        web.submit_job_execution(job, tags={PARTITION_NAME_TAG: window, ATTEMPT_TAG: "1", REASON_TAG: "a test"})
        for job in (CLOSE_WINDOW_JOB, RETRAIN_JOB)
    ]
    eventually(lambda: len(new_runs(loop, before, RunKind.CLOSING)) == 1 and loop.quiet(), what="both runs")
    records = [loop.instance.get_run_record_by_id(run_id) for run_id in asked]
    assert [record and record.dagster_run.status for record in records] == [dg.DagsterRunStatus.SUCCESS] * 2
    [first, second] = sorted((record.start_time or 0, record.end_time or 0) for record in records if record)
    assert first[1] <= second[0]
    for asset in (*RAW, *FAMILIES, *RETRAINING_ASSETS):
        events = loop.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[window]), limit=2
        ).records
        assert asked[0] in {event.run_id for event in events}, asset


def test_nothing_new_makes_no_run_and_no_version(loop: Loop) -> None:
    states = eventually(loop.instance.all_instigator_state)  # its connection may be one that PostgreSQL's death has cut
    runs, versions = loop.runs(), loop.versions()
    ticks = [
        (state, loop.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)[0].tick_id)
        for state in states
        if "sensor" in state.name
    ]
    for state, tick in ticks:
        eventually(
            lambda state=state, tick=tick: (
                int(loop.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)[0].tick_id) > int(tick) + 1
            ),
            what=f"two more ticks of {state.name}",
        )
    assert [run.run_id for run in loop.runs()] == [run.run_id for run in runs]
    assert loop.versions() == versions


@pytest.mark.parametrize(
    "words", [("bid_assets.orchestration.web_server",), ("code-server", "start"), ("dagster-daemon",), ("bid-assets", "serve")]
)
def test_a_part_that_is_killed_comes_back(loop: Loop, words: tuple[str, ...]) -> None:
    before = loop.child(*words)
    assert before is not None
    before.kill()

    def again() -> bool:
        now = loop.child(*words)
        return now is not None and now.pid != before.pid

    eventually(again, what="the part")
    eventually(lambda: code_is_loaded(f"127.0.0.1:{loop.port}"), what="an answer of the web server")


def test_one_of_another_home_on_the_same_port_is_told_so_at_once(loop: Loop, tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "bid_assets.cli", "up", "--port", str(loop.port)],
        capture_output=True,
        text=True,
        env={**os.environ, "BID_ASSETS_HOME": str(tmp_path)},
    )
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{loop.port}" in refused.stderr


def test_status_says_what_is_active_what_waits_and_what_ran(loop: Loop) -> None:
    told = eventually(lambda: call_json("status"))
    active = active_model(loop.store)
    assert active is not None
    assert told["active"]["model"] == active.model.version
    assert told["outcomes"]["followed"] is True
    assert told["policy"]["action"] == "wait"
    assert {run["kind"] for run in told["runs"]} == {"refresh", "retraining", "closing"}
    assert all(run["reason"] for run in told["runs"])
    assert "Policy: wait" in call("status").stdout


def test_the_log_of_all_parts_is_in_one_place(loop: Loop) -> None:
    log = (loop.settings.home / "logs" / "up.log").read_text()
    assert {"[daemon]", "[web server]", "[code server]", "[PostgreSQL]", "[prediction service]", "[up]"} <= set(
        re.findall(r"\[[A-Za-z ]+\]", log)
    )
    assert "daemon was killed by SIGKILL; it is started again" in log


def test_sigterm_stops_every_part(loop: Loop) -> None:
    [up] = loop.processes
    up.send_signal(signal.SIGTERM)
    assert up.wait(PATIENCE) == 0
    eventually(lambda: loop.child("dagster") is None, what="the end of all processes")
