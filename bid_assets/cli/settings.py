"""`bid-assets settings`: every knob with its default, its value and its meaning."""

from __future__ import annotations

import click
from rich.table import Table

from bid_assets.cli.output import console
from bid_assets.settings import Settings, get_settings, sources_of_values

SECRET = ("app_db_url", "dagster_db_url", "prediction_db_url")


def show_settings(*, markdown: bool) -> None:
    """Print the settings; passwords in URLs are left out."""
    if markdown:
        click.echo(settings_markdown())
        return
    current, sources = get_settings(), sources_of_values()
    table = Table("variable", "value", "from", "default", "meaning", title="Settings", title_justify="left")
    for name, field in Settings.model_fields.items():
        value = getattr(current, name)
        shown = "(set)" if name in SECRET and value else str(value)
        table.add_row(f"BID_ASSETS_{name.upper()}", shown, sources.get(name, "default"), str(field.default), field.description)
    console.print(table)


def settings_markdown() -> str:
    """The settings as a Markdown table."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default is None else f"`{field.default}`"
        lines.append(f"| `BID_ASSETS_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)
