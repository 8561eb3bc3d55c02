"""`bid-assets up`: code server, web server, daemon and prediction service over this folder's code and databases, until Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from sqlalchemy.exc import OperationalError

from bid_assets.app_db.database import app_db_url, dagster_db_url, embedded_log
from bid_assets.commands.console import console, notes
from bid_assets.instance import dagster_home, open_instance, state_folder
from bid_assets.serving.keys import KeyRing, refuse_open_door
from bid_assets.settings import Settings, get_settings
from bid_assets.supervisor import Part, PartGivenUp, Supervisor, rotating_log

_WORTH_SHOWING = re.compile(r"WARNING|ERROR|CRITICAL|Traceback|RUN_SUCCESS|RUN_FAILURE|Launching run for")
_LOOK_EVERY = 0.5
_ORPHANS_EVERY = 15.0
_TO_BEGIN = timedelta(minutes=1)
"""How long the process of a run may take to say that it is there."""
_LOADED = (
    """query { workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { __typename } } } } }"""
)


def up(host: str, port: int, service_port: int) -> int:
    """Run all parts until Ctrl-C or SIGTERM; the exit code. 1 where a part could not be kept running."""
    settings = get_settings()
    refuse_taken(host, port)
    refuse_taken(host, service_port, "--service-port")
    refuse_open_door(host, KeyRing(settings.resolved_api_keys))
    keep_databases(settings)  # first, so that their errors are the first thing to be read
    log_file = settings.home / "logs" / "up.log"
    log = rotating_log(log_file)

    def heard(part: str, line: str) -> None:
        log.info("[%s] %s", part, line)
        if _WORTH_SHOWING.search(line):
            notes.print(f"[{part}] {line}", style="dim", markup=False, highlight=False, soft_wrap=True)

    def report(part: str, line: str) -> None:
        log.info("[up] %s %s", part, line)
        notes.print(f"{part} {line}. Its log: {log_file}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    with tempfile.TemporaryDirectory(prefix="bid_assets-") as sockets:
        all_parts = [
            *database_log(settings),
            *parts(Path(sockets) / "code", host, port),
            prediction_service(host, service_port),
        ]
        supervisor = Supervisor(all_parts, environment(settings), dagster_home(), heard, report)
        with stopping_on_signals():
            try:
                run(supervisor, settings, host, port, service_port, log_file)
            except PartGivenUp as error:
                log.info("[up] %s", error)
                notes.print(f"Given up: {error}", style="red", markup=False, highlight=False)
                return 1
            except KeyboardInterrupt:
                console.print("Stopping.")
                return 0
            finally:
                supervisor.stop()


def parts(code_socket: Path, host: str, port: int) -> list[Part]:
    """The processes, in the order in which they are started. The workspace names the one code server that all share."""
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
        Part("code server", [str(programs / "dagster"), *code, "--inject-env-vars-from-instance"], code_socket.exists),
        Part("web server", [str(programs / "dagster-webserver"), "-w", str(workspace), "-h", host, "-p", str(port)]),
        Part("daemon", [str(programs / "dagster-daemon"), "run", "-w", str(workspace)]),
    ]


def database_log(settings: Settings) -> list[Part]:
    """What the embedded PostgreSQL, whom no single process starts and stops, writes from now on."""
    log = embedded_log(settings)
    return [] if log is None else [Part("PostgreSQL", ["tail", "-n", "0", "-F", str(log)])]


def prediction_service(host: str, port: int) -> Part:
    """It waits for nobody: until there is a model it says so itself."""
    program = str(Path(sys.executable).parent / "bid-assets")
    return Part("prediction service", [program, "serve", "--host", host, "--port", str(port)])


def environment(settings: Settings) -> dict[str, str]:
    """Ours, with the folders made explicit."""
    return {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home()),
        "BID_ASSETS_HOME": str(settings.home),
        "PYTHONUNBUFFERED": "1",
    }


def run(supervisor: Supervisor, settings: Settings, host: str, port: int, service_port: int, log_file: Path) -> NoReturn:
    """Start everything, say when it answers, and look after it for ever."""
    begin = time.monotonic()
    with open_instance() as instance:
        from bid_assets.automation.orphans import fail_orphans, fail_unstarted

        fail_unstarted(instance, after=timedelta(0))  # no code server is running yet
        supervisor.start()
        answered, orphans_at = False, 0.0
        while True:
            supervisor.look_after()
            keep_databases(settings)
            if time.monotonic() >= orphans_at and not settings.dagster_db_url:
                orphans_at = time.monotonic() + _ORPHANS_EVERY
                with suppress(OperationalError):  # PostgreSQL is just being started again
                    for run_id in [*fail_orphans(instance), *fail_unstarted(instance, after=_TO_BEGIN)]:
                        notes.print(f"Run {run_id[:8]} has no process; it is marked as failed.", style="yellow")
            if not answered and answers(host, port):
                answered = True
                say_addresses(settings, host, port, service_port, log_file, time.monotonic() - begin)
            time.sleep(_LOOK_EVERY)


def keep_databases(settings: Settings) -> None:
    """Start the embedded PostgreSQL, where it is used and not running."""
    app_db_url(settings)
    dagster_db_url(settings)


def answers(host: str, port: int) -> bool:
    """Whether the web server answers and has loaded the code."""
    request = urllib.request.Request(
        f"http://{_reachable(host)}:{port}/graphql",
        json.dumps({"query": _LOADED}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            entries = json.load(response)["data"]["workspaceOrError"]["locationEntries"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(entries) and all(
        entry["loadStatus"] == "LOADED" and entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
        for entry in entries
    )


def say_addresses(settings: Settings, host: str, port: int, service_port: int, log_file: Path, seconds: float) -> None:
    """Where everything is."""
    console.print(f"Everything is up after {seconds:.0f} s. Ctrl-C stops it.")
    rows = {
        "Dagster UI": f"http://{_reachable(host)}:{port}",
        "prediction service": f"http://{_reachable(host)}:{service_port}/docs",
        "application's database": without_password(app_db_url(settings)),
        "Dagster's database": without_password(dagster_db_url(settings)),
        "version store": settings.resolved_store_url,
        "log of all parts": str(log_file),
    }
    for name, address in rows.items():
        console.print(f"  {name:23} {address}", markup=False, highlight=False, soft_wrap=True)


def without_password(url: str) -> str:
    """A database URL as it may be shown."""
    parsed = urlsplit(url)
    return url.replace(f":{parsed.password}@", ":***@", 1) if parsed.password else url


def refuse_taken(host: str, port: int, option: str = "--port") -> None:
    """Raise `OSError` where somebody else listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"cannot listen on {host}:{port}: {error.strerror}. Stop what is there, or choose another {option}"
            ) from None


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """SIGTERM stops like Ctrl-C, also in a shell's background job, where SIGINT is ignored otherwise."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "") else host
