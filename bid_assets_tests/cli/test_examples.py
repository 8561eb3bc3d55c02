"""What help and documents tell people to type: the days are days that the demo's market has, whenever they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import click
import pytest

from bid_assets.cli import main
from bid_assets.cli.demo import WEEKS_TO_PLAY
from bid_assets.common.windows import Cadence, utc_now
from bid_assets_tests.conftest import CHECKOUT

END = Cadence.WEEKLY.floor(utc_now()).date() - timedelta(weeks=WEEKS_TO_PLAY)
START = END - timedelta(weeks=26)
DAY = re.compile(r"\b20\d\d-\d\d-\d\d\b")
WEEKS_AGO = re.compile(r"\$\(date -d '(\d+) weeks ago' \+%F\)")
MEASURED = ("results", "research-log", "adr")
"""Folders whose commands are those that were measured, on data with these days."""
DOCUMENTS = [
    CHECKOUT / "README.md",
    *(
        page
        for page in sorted((CHECKOUT / "docs").rglob("*.md"))
        if page.relative_to(CHECKOUT / "docs").parts[0] not in MEASURED and page.name != "cli.md"
    ),
]


def examples(command: click.Command) -> Iterator[str]:
    yield command.epilog or ""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            child = command.get_command(click.Context(command), name)
            assert child is not None
            yield from examples(child)


def commands_in(document: Path) -> list[str]:
    """The lines of a document's code blocks that call us."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if "bid-assets" in line]


def test_days_in_the_help_are_days_of_the_demo() -> None:
    days = [date.fromisoformat(day) for example in examples(main) for day in DAY.findall(example)]
    assert len(days) >= 6
    assert all(START <= day < END for day in days)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_days_in_documents_are_counted_from_the_day_on_which_they_are_read(document: Path) -> None:
    for line in commands_in(document):
        assert not DAY.search(line), line
        for weeks in WEEKS_AGO.findall(line):
            assert START <= utc_now().date() - timedelta(weeks=int(weeks)) < END, line
