"""What the commands share: exit codes, errors in one line, option types, examples in help. Imports click alone."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import click

ANSWER_IS_NO = 3


class CommandGroup(click.Group):
    """A group whose commands fail in one readable line; with `--debug` in a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As a program: files that it writes are readable by their owner alone."""
        from bid_assets.common.private_state import restrict_umask

        restrict_umask()
        return super().__call__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn an unexpected error into a line on stderr and exit code 1."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            message = str(getattr(error, "description", None) or error).strip() or type(error).__name__
            fail(f"{message}  (--debug shows where)")


def fail(message: str) -> NoReturn:
    """Print `message` on stderr and exit with 1."""
    click.echo(click.style("error: ", fg="red") + message, err=True)
    sys.exit(1)


def example(*lines: str) -> str:
    """An epilog of commands, kept as written."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def monday(weeks_ago: int) -> str:
    """The day on which the window of so many weeks ago begins: examples name days that the demo's market has, whenever they are
    read.
    """
    today = datetime.now(UTC)
    return f"{today - timedelta(days=today.weekday(), weeks=weeks_ago):%Y-%m-%d}"


DAY = click.DateTime(["%Y-%m-%d"])
MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
