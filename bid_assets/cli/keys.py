"""`bid-assets keys`: make, list and revoke the API keys of the prediction service."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table

from bid_assets.cli.output import console, print_json, stderr
from bid_assets.serving.middleware.api_keys import create_key, marker_path, read_keys, revoke_key
from bid_assets.settings import get_settings


def create(name: str, scopes: Sequence[str]) -> None:
    """Print a new key, and nothing else, on stdout."""
    path = get_settings().resolved_api_keys
    token = create_key(path, name, scopes)
    stderr.print(f"Key {name} ({', '.join(scopes)}). It is shown this once: only its hash is kept, in {path}")
    click.echo(token)


def list_keys(*, as_json: bool) -> None:
    """Who has a key, and for what."""
    keys = read_keys(get_settings().resolved_api_keys)
    if as_json:
        print_json([{"id": k.id, "name": k.name, "scopes": sorted(k.scopes), "created_at": k.created_at} for k in keys])
        return
    table = Table("name", "scopes", "id", "created (UTC)", title="API keys", title_justify="left")
    for key in keys:
        table.add_row(key.name, ", ".join(sorted(key.scopes)), key.id, f"{key.created_at:%Y-%m-%d %H:%M:%S}")
    console.print(table)


def revoke(name: str) -> None:
    """The services that run refuse the key within a second."""
    path = get_settings().resolved_api_keys
    revoked = revoke_key(path, name)
    console.print(f"Key {revoked.name} ({revoked.id}) is revoked; services that run refuse it within a second.")
    if not read_keys(path):
        console.print(
            "It was the last key: from now on every request is refused but /health, /ready and /docs. Make another with "
            f"`bid-assets keys create NAME --scope predict`; or, to ask for no key any more (on this machine only), stop the "
            f"services and delete {path} and {marker_path(path)}.",
            soft_wrap=True,
        )
