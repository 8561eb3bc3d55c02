"""`bid-assets serve` and `bid-assets keys`: the prediction service."""

from __future__ import annotations

import click

from bid_assets.cli.options import JSON, example


@click.command(epilog=example("bid-assets serve --port 8000", "bid-assets serve --host 0.0.0.0 --workers 2"))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; any other than loopback needs API keys."
)
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes that answer.")
def serve(host: str, port: int, workers: int) -> None:
    """The prediction service alone: the probability that a bid will succeed, from the active model, over HTTP.

    It follows the deployment history: what `up`, `approve` or `rollback` makes active answers within two seconds. /docs
    describes the endpoints.
    """
    from bid_assets.cli.serve import serve as serve_command

    serve_command(host, port, workers)


@click.group()
def keys() -> None:
    """API keys of the prediction service. With the first one, every request needs one."""


@keys.command("create", epilog=example("bid-assets keys create autobidder --scope predict"))
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("predict",),
    show_default=True,
    type=click.Choice(["predict", "admin"]),
    help="What it may do; `admin` includes `predict`. Several may be given.",
)
def keys_create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key and print it, this once."""
    from bid_assets.cli.keys import create

    create(name, scopes)


@keys.command("list", epilog=example("bid-assets keys list --json"))
@JSON
def keys_list(as_json: bool) -> None:
    """Who has a key, and for what."""
    from bid_assets.cli.keys import list_keys

    list_keys(as_json=as_json)


@keys.command("revoke", epilog=example("bid-assets keys revoke autobidder"))
@click.argument("name")
def keys_revoke(name: str) -> None:
    """Refuse a key (by name or id) from now on; services that run do so within a second."""
    from bid_assets.cli.keys import revoke

    revoke(name)
