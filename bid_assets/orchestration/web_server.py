"""Dagster's web server behind our guard: python -m bid_assets.orchestration.web_server --host HOST --port PORT --workspace
FILE.

`dagster-webserver` has no place for a middleware; this starts the same application with the same defaults. `bid-assets up` uses
it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.interrupts import setup_interrupt_handlers
from dagster._utils.log import configure_loggers
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.cli import DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_MAX_OVERFLOW, DEFAULT_POOL_RECYCLE
from dagster_webserver.version import __version__

from bid_assets.orchestration.ui_guard import ForeignRequestGuard
from bid_assets.settings import get_settings


def serve_ui(host: str, port: int, workspace: Path) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    import uvicorn

    configure_loggers(formatter="colored", log_level="INFO")
    setup_interrupt_handlers()
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        target = WorkspaceFileTarget([str(workspace)])
        with WorkspaceProcessContext(instance, version=__version__, workspace_load_target=target) as context:
            guarded = ForeignRequestGuard(create_app_from_workspace_process_context(context), get_settings().ui_host_names)
            uvicorn.run(guarded, host=host, port=port, log_level="warning")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bid_assets.orchestration.web_server")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    serve_ui(**vars(parser.parse_args()))
