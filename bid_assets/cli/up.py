"""`bid-assets up`: code server, web server, daemon and prediction service over this folder's code, until Ctrl-C."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

from bid_assets.app_db.connections import without_password
from bid_assets.app_db.database import app_db_url, dagster_db_url, embedded_server
from bid_assets.cli.listening import reachable, require_free_port, stopping_on_signals
from bid_assets.cli.output import console, stderr
from bid_assets.cli.periodic_tasks import PeriodicTasks, keep_postgres_running
from bid_assets.cli.running_loop import exclusive_loop
from bid_assets.cli.supervisor import (
    SUPERVISED_HOME,
    ManagedProcess,
    Probe,
    ProcessFailedError,
    Supervisor,
    rotating_log,
    terminate_leftovers,
)
from bid_assets.embedded_postgres import postmaster
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.orchestration.code_location import follow_first_window
from bid_assets.orchestration.instance import dagster_home, open_instance, state_folder
from bid_assets.orchestration.liveness import (
    code_is_loaded,
    code_server_answers,
    daemon_is_alive,
    service_answers,
    web_server_answers,
)
from bid_assets.orchestration.orphaned_runs import fail_orphaned_runs
from bid_assets.orchestration.ui_guard import refuse_unguarded
from bid_assets.serving.middleware.api_keys import ApiKeyStore, require_keys_off_loopback
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.store_metadata import open_store

_SHOWN_LINES = re.compile(r"WARNING|ERROR|CRITICAL|Traceback|RUN_SUCCESS|RUN_FAILURE|Launching run for")
_POLL_SECONDS = 0.5
WEB_SERVER = "bid_assets.orchestration.web_server"
_POSTGRES_EVERY, _ORPHANS_EVERY, _FIRST_WINDOW_EVERY = 2.0, 15.0, 5.0
_SERVICE_STARTUP_TIMEOUT = 900.0
"""The service may have to make an encoder before it answers."""


def up(host: str, port: int, service_host: str, service_port: int) -> int:
    """Run all processes until Ctrl-C or SIGTERM; the exit code. 1 where one could not be kept running."""
    settings = get_settings()
    with exclusive_loop(settings):
        refuse_unguarded(host, settings.ui_host_names)
        require_keys_off_loopback(service_host, ApiKeyStore(settings.resolved_api_keys))
        require_free_port(host, port)
        require_free_port(service_host, service_port, "--service-port")
        return run_loop(settings, host, port, service_host, service_port)


def run_loop(settings: Settings, host: str, port: int, service_host: str, service_port: int) -> int:
    """Run all processes of the loop, after `exclusive_loop` has locked the home."""
    addresses = {"application's database": app_db_url(settings), "Dagster's database": dagster_db_url(settings)}
    log_file = settings.home / "logs" / "up.log"
    log = rotating_log(log_file)
    on_output, report = partial(_log_output, log), partial(_report, log, log_file)
    for line in terminate_leftovers(settings.home):
        report("a process of an earlier `bid-assets up`", f"was still there and has been ended: {line}")
    postgres = embedded_server(settings)
    with (
        stopping_on_signals(),
        tempfile.TemporaryDirectory(prefix="bid_assets-") as sockets,
        open_instance() as instance,
        PeriodicTasks(report) as tasks,
    ):
        if not settings.dagster_db_url:
            fail_orphaned_runs(instance, report, unstarted_after=timedelta(0))  # no code server is running yet
            tasks.every(_ORPHANS_EVERY, "the runs", lambda: fail_orphaned_runs(instance, report))
        if postgres is not None:
            tasks.every(_POSTGRES_EVERY, "PostgreSQL", keep_postgres_running(postgres, report))
        code_socket = Path(sockets) / "code"
        reload_code = follow_first_window(settings, open_store(settings), code_socket, report)
        tasks.every(_FIRST_WINDOW_EVERY, "the first window", reload_code)
        processes = [
            *database_log(postgres),
            *dagster_processes(code_socket, host, port, partial(daemon_is_alive, instance)),
            prediction_service(service_host, service_port),
        ]
        supervisor = Supervisor(processes, environment(settings), dagster_home(), on_output, report)
        shown = {
            "Dagster UI": f"http://{reachable(host)}:{port}",
            "prediction service": f"http://{reachable(service_host)}:{service_port}/docs",
            **{name: without_password(url) for name, url in addresses.items()},
            "version store": settings.resolved_store_url,
            "log of all processes": str(log_file),
        }
        try:
            supervise(supervisor, f"{reachable(host)}:{port}", shown)
        except ProcessFailedError as error:
            log.info("[up] %s", error)
            stderr.print(f"Given up: {error}", style="red", markup=False, highlight=False)
            return 1
        except KeyboardInterrupt:
            console.print("Stopping.")
            return 0
        finally:
            supervisor.stop()


def _log_output(log: logging.Logger, name: str, line: str) -> None:
    """A line that a process wrote."""
    log.info("[%s] %s", name, line)
    if _SHOWN_LINES.search(line):
        stderr.print(f"[{name}] {line}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _report(log: logging.Logger, log_file: Path, name: str, line: str) -> None:
    """What happened to a process."""
    log.info("[up] %s %s", name, line)
    stderr.print(f"{name} {line}. Its log: {log_file}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def supervise(supervisor: Supervisor, web_server: str, shown: dict[str, str]) -> NoReturn:
    """Start all processes, print the addresses once the code is loaded, and supervise them for ever."""
    begin = time.monotonic()
    supervisor.start()
    loaded = Probe(partial(code_is_loaded, web_server))
    while True:
        supervisor.restart_dead()
        if shown and loaded.result:
            console.print(f"Everything is up after {time.monotonic() - begin:.0f} s. Ctrl-C stops it.")
            for name, address in shown.items():
                console.print(f"  {name:23} {address}", markup=False, highlight=False, soft_wrap=True)
            shown = {}
        elif shown and loaded.result is False:
            loaded = Probe(partial(code_is_loaded, web_server))
        time.sleep(_POLL_SECONDS)


def dagster_processes(code_socket: Path, host: str, port: int, daemon_check: Callable[[], bool]) -> list[ManagedProcess]:
    """Dagster's processes, in the order in which they are started. The workspace names the one code server that all share."""
    workspace = state_folder() / "workspace.yaml"
    workspace.write_text(
        json.dumps({"load_from": [{"grpc_server": {"socket": str(code_socket), "location_name": "bid_assets"}}]})
    )
    programs = Path(sys.executable).parent
    code = [
        "code-server",
        "start",
        "-m",
        "bid_assets.definitions",
        "--socket",
        str(code_socket),
        "--location-name",
        "bid_assets",
    ]
    return [
        ManagedProcess(
            "code server",
            [str(programs / "dagster"), *code, "--inject-env-vars-from-instance"],
            code_socket.exists,
            partial(code_server_answers, code_socket),
        ),
        ManagedProcess(
            "web server",
            [sys.executable, "-m", WEB_SERVER, "--host", host, "--port", str(port), "--workspace", str(workspace)],
            health_check=partial(web_server_answers, f"{reachable(host)}:{port}"),
        ),
        ManagedProcess(
            "daemon",
            [str(programs / "dagster-daemon"), "run", "-w", str(workspace)],
            health_check=daemon_check,
        ),
    ]


def database_log(postgres: EmbeddedServer | None) -> list[ManagedProcess]:
    """What the embedded PostgreSQL, whom no single process starts and stops, writes from now on."""
    return (
        []
        if postgres is None
        else [ManagedProcess("PostgreSQL", ["tail", "-n", "0", "-F", str(postgres.data / postmaster.LOG)])]
    )


def prediction_service(host: str, port: int) -> ManagedProcess:
    """It waits for nobody: until there is a model it says so itself."""
    program = str(Path(sys.executable).parent / "bid-assets")
    return ManagedProcess(
        "prediction service",
        [program, "serve", "--host", host, "--port", str(port)],
        health_check=partial(service_answers, f"{reachable(host)}:{port}"),
        startup_timeout=_SERVICE_STARTUP_TIMEOUT,
    )


def environment(settings: Settings) -> dict[str, str]:
    """Ours, with the folders made explicit."""
    return {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home()),
        "BID_ASSETS_HOME": str(settings.home),
        SUPERVISED_HOME: str(settings.home),
        "PYTHONUNBUFFERED": "1",
    }
