"""Names name things: a past participle says what happened to a thing, and not what it is. And the words of the glossary's
*Avoid* column are gone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bid_assets

PACKAGE = Path(str(bid_assets.__file__)).parent
ROOT = PACKAGE.parent
GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
OLD_NAMES = {"renamed_settings.py", "former_keys.py", "legacy_model_file.py", "model_file.py"}
"""Modules that read what earlier releases wrote, and so name it, as `docs/reference/settings.md` does."""
DATA = {"vocabulary.py"}
"""What simulated people write."""
HISTORY = {"research-log", "adr"}
"""Folders of the docs that say what was once so."""

NAMES_OF_NOTHING = {"asked", "found", "judged", "made", "said", "seen", "taken", "told", "wanted"}


def defined_names(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno


def test_no_name_of_the_product_is_a_past_participle_alone() -> None:
    names = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name, line in defined_names(path)
        if name.strip("_").lower() in NAMES_OF_NOTHING
    ]
    assert not names


def words_to_avoid() -> list[str]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in GLOSSARY.read_text().splitlines()]
    columns = [row[2] for row in rows if len(row) == 3 and row[0].startswith("**")]
    return sorted({word.strip() for column in columns for word in column.split(",") if word.strip()})


@cache
def texts() -> list[tuple[Path, str]]:
    """Product, docs of today and the names that tests define, in lower case and cut into words."""
    code = [path for kind in ("*.py", "*.html") for path in sorted(PACKAGE.rglob(kind)) if path.name not in OLD_NAMES | DATA]
    pages = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    pages = [
        page for page in pages if page.parent.name not in HISTORY and page not in (GLOSSARY, GLOSSARY.with_name("settings.md"))
    ]
    names = [
        (path, "\n".join(name for name, _ in defined_names(path)))
        for path in sorted((ROOT / "bid_assets_tests").rglob("*.py"))
        if path.name not in {*OLD_NAMES, "test_former_keys.py"}
    ]
    return [(path, in_words(text)) for path, text in [*((path, path.read_text()) for path in [*code, *pages]), *names]]


def in_words(text: str) -> str:
    text = re.sub(r"</?figure>|figure \{", "", text)  # of HTML
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower().replace("_", " ").replace("-", " ")


@pytest.mark.parametrize("word", words_to_avoid())
def test_words_that_the_glossary_avoids_do_not_occur(word: str) -> None:
    word = in_words(word)
    whole = re.compile(rf"^.*(?<![a-z]){re.escape(word)}s?(?![a-z]).*$", re.MULTILINE)
    lines = [f"{path.relative_to(ROOT)}: {line}" for path, text in texts() if word in text for line in whole.findall(text)]
    assert not lines
