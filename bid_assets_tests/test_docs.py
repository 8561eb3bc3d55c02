"""What the pages say exists: every link resolves, every path under docs/ that the code names is there, every command parses."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bid_assets.cli import main
from bid_assets.common.renamed_settings import RENAMED_SETTINGS
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.settings import Settings
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.reference_pages import COMMAND, REFERENCE
from bid_assets_tests.reference_pages import PAGES as GENERATED

DOCS = CHECKOUT / "docs"
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
AS_ON_THEIR_DAY = DOCS / "research-log"
"""Its commands and names stay as they were."""
LIVING = [page for page in PAGES if AS_ON_THEIR_DAY not in page.parents]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_resolves(page: Path) -> None:
    for link in LINK.findall(CODE_BLOCK.sub("", page.read_text())):
        if re.match(r"\w+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not fragment or fragment in anchors(target), f"{link}: {name_of(target)} has no such heading"


def test_every_page_is_linked_to_from_another_page() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in LINK.findall(page.read_text())} | {
        CHECKOUT / "README.md"
    }
    assert sorted(name_of(page) for page in set(PAGES) - linked) == []


def test_every_page_that_the_code_names_is_there() -> None:
    sources = [
        *(CHECKOUT / name for name in ("Makefile", "dagster.yaml", "pyproject.toml")),
        *(CHECKOUT / "bid_assets").rglob("*.py"),
        *(CHECKOUT / "bid_assets_tests").rglob("*.py"),
    ]
    for source in sources:
        for path in re.findall(r"docs/[\w/.-]+\.md|docs/[\w-]+/", source.read_text()):
            assert (CHECKOUT / path).exists(), f"{name_of(source)} names {path}"


def command_lines(page: Path) -> Iterator[str]:
    """Lines of code blocks, and code within sentences, that call us."""
    text = page.read_text()
    lines = [line for block in CODE_BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`\n]+)`", CODE_BLOCK.sub("", text))
    for line in (*lines, *spans):
        if re.search(r"(^|[\s/])bid-assets\s+[a-z-]", line) or "python -m bid_assets" in line:
            yield line


def calls(line: str) -> Iterator[list[str]]:
    """The commands of ours in a line of shell, each as its words."""
    line = re.sub(r"\$\([^()]*\)", "X", line)
    for part in re.split(r"&&|\|\|?|;|\$\(|\)", re.sub(r"\s#.*", "", line)):
        try:
            words = shlex.split(part)
        except ValueError:  # a quote goes on in the next line, or another part has its end
            words = part.split()
        for place, word in enumerate(words):
            if Path(word).name == "bid-assets" or words[place : place + 2] == ["-m", "bid_assets.cli"]:
                yield ["bid-assets", *words[place + 1 :]]
                break
            if word == "-m" and words[place + 1 : place + 2] and words[place + 1].startswith("bid_assets"):
                yield words[place + 1 :]
                break


def check_command(words: list[str]) -> None:
    """Whether the subcommand and every option of it exist; click's own parser is asked, values are not looked at."""
    command: click.Command = main
    rest = words[1:]
    while isinstance(command, click.Group):
        while rest and rest[0].startswith("--"):
            assert rest.pop(0) in options_of(command), f"{' '.join(words)}: no such option"
        if not rest or rest[0].isupper():
            return
        child = command.get_command(click.Context(command), rest[0])
        if child is None and command.invoke_without_command:
            break
        assert child is not None, f"{' '.join(words)}: there is no {rest[0]}"
        command, rest = child, rest[1:]
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in options_of(command), f"{' '.join(words)}: there is no {word}"


def options_of(command: click.Command) -> set[str]:
    return {"--help", *(option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts))}


def check_module(words: list[str]) -> None:
    """Whether the module can be run, and its source has every option."""
    spec = importlib.util.find_spec(words[0])
    assert spec is not None, f"there is no module {words[0]}"
    assert spec.origin is not None
    source = Path(spec.origin)
    if spec.submodule_search_locations:
        source = source.parent / "__main__.py"
        assert source.exists(), f"{words[0]} cannot be run"
    for word in words[1:]:
        assert not word.startswith("--") or f'"{word}"' in source.read_text(), f"{words[0]} has no {word}"


@pytest.mark.parametrize("page", LIVING, ids=name_of)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    for line in command_lines(page):
        for words in calls(line):
            (check_command if words[0] == "bid-assets" else check_module)(words)


@pytest.mark.parametrize("page", LIVING, ids=name_of)
def test_every_source_file_that_a_page_names_exists(page: Path) -> None:
    sources = [f"/{name_of(path)}" for path in CHECKOUT.glob("bid_assets*/**/*.py")]
    for path in re.findall(r"`([\w/]+\.py)`", page.read_text()):
        assert any(source.endswith(f"/{path}") for source in sources) or path.endswith("text_style.py"), f"there is no {path}"


@pytest.mark.parametrize("page", LIVING, ids=name_of)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    lists_old_names = page.name in ("CHANGELOG.md", "settings.md")
    names = {f"BID_ASSETS_{name.upper()}" for name in (*Settings.model_fields, *(RENAMED_SETTINGS if lists_old_names else ()))}
    assert set(re.findall(r"BID_ASSETS_[A-Z_]+[A-Z]", page.read_text())) <= names


def test_a_command_that_is_not_there_is_seen() -> None:
    for line in (
        "bid-assets runn",
        "X=1 .venv/bin/bid-assets run --form 3 # week",
        "python -m bid_assets_tests.benchmarks.none",
    ):
        with pytest.raises(AssertionError):
            [(check_command if words[0] == "bid-assets" else check_module)(words) for words in calls(line)]


@pytest.mark.parametrize("page", LIVING, ids=name_of)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE):
        assert target in targets, f"make {target}"


@pytest.mark.parametrize("name", GENERATED)
def test_the_generated_reference_pages_are_what_they_would_be_now(name: str) -> None:
    assert (REFERENCE / name).read_text() == GENERATED[name](), f"docs/reference/{name} is stale: `{COMMAND}` writes it"


def test_every_metric_of_the_service_is_on_its_page() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    for name in re.findall(r"^# TYPE (bid_assets_\w+)", Metrics().exposition().decode(), re.MULTILINE):
        assert name.endswith("_created") or f"`{name}`" in page, name


def test_the_changelog_names_every_setting_that_is_read_under_an_old_name() -> None:
    changelog = (CHECKOUT / "CHANGELOG.md").read_text()
    for old, new in RENAMED_SETTINGS.items():
        assert f"| `BID_ASSETS_{old.upper()}` | `BID_ASSETS_{new.upper()}` |" in changelog
