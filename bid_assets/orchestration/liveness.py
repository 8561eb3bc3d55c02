"""Whether a part of `bid-assets up` works: each is asked something that only a working one can answer.

Each question ends within seconds, and raises or is False where the answer is not there. Who asks, how often, and what follows
is in `supervisor.py`.
"""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10
"""How long an answer may take."""
MISSED_HEARTBEATS = 4
"""The process hangs where all threads of the daemon have missed this many."""
HANGING_THREAD_SECONDS = 900
"""Of one thread of the daemon, which writes no heartbeat during a tick or while it launches runs."""

_VERSION = "query { version }"
_LOADED = (
    """query { workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { __typename } } } } }"""
)


def code_server_answers(socket: Path) -> bool:
    """Whether the process that has loaded the code answers, behind the proxy on this socket."""
    from dagster._grpc.client import DagsterGrpcClient

    return bool(DagsterGrpcClient(socket=str(socket)).get_server_id(timeout=ANSWER_SECONDS))


def web_server_answers(address: str) -> bool:
    """Whether Dagster's web server at `host:port` answers a query."""
    return "version" in _graphql(address, _VERSION)


def code_is_loaded(address: str) -> bool:
    """Whether the web server at `host:port` answers and has loaded the code."""
    try:
        entries = _graphql(address, _LOADED)["workspaceOrError"]["locationEntries"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(entries) and all(
        entry["loadStatus"] == "LOADED" and entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
        for entry in entries
    )


def service_answers(address: str) -> bool:
    """Whether the prediction service at `host:port` answers.

    It may have nothing to predict with yet: that is no fault of the process.
    """
    with urllib.request.urlopen(f"http://{address}/health", timeout=ANSWER_SECONDS) as response:
        return bool(response.status == 200)


def daemon_is_alive(instance: dg.DagsterInstance) -> bool:
    """Whether the daemon's threads have written heartbeats of late. True where the database cannot say."""
    from dagster._daemon.controller import DEFAULT_HEARTBEAT_INTERVAL_SECONDS
    from sqlalchemy.exc import SQLAlchemyError

    try:
        heartbeats = instance.get_daemon_heartbeats()
    except SQLAlchemyError as error:
        log.debug("the heartbeats of the daemon cannot be read: %s", error)  # no daemon would mend that
        return True
    ages = {
        kind: time.time() - heartbeats[kind].timestamp for kind in instance.get_required_daemon_types() if kind in heartbeats
    }
    return (
        len(ages) == len(instance.get_required_daemon_types())
        and min(ages.values()) < MISSED_HEARTBEATS * DEFAULT_HEARTBEAT_INTERVAL_SECONDS
        and max(ages.values()) < HANGING_THREAD_SECONDS
    )


def _graphql(address: str, query: str) -> Mapping[str, Any]:
    request = urllib.request.Request(
        f"http://{address}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
        answer: Mapping[str, Any] = json.load(response)["data"]
    return answer
