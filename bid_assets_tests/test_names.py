"""Names name things: a past participle says what happened to a thing, and not what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import bid_assets

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
    package = Path(str(bid_assets.__file__)).parent
    names = [
        f"{path.relative_to(package)}:{line}: {name}"
        for path in sorted(package.rglob("*.py"))
        for name, line in defined_names(path)
        if name.strip("_").lower() in NAMES_OF_NOTHING
    ]
    assert not names
