"""What must not be imported: start-up stays quick because heavy libraries come when they are used, and packages import
downwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bid_assets

HEAVY = ("torch", "sentence_transformers", "transformers", "xgboost", "sklearn", "adbc_driver_manager", "polars")

MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 50

LAYERS = (
    "common",
    "embedded_postgres",
    "app_db",
    "version_store",
    "deployments",
    "verification",
    "prediction_log",
    "features",
    "modelling",
    "model_card",
    "orchestration",
    "serving",
    "simulation",
    "cli",
)
"""From the ground up: a package imports only those before it."""


def imports_of(package: str) -> Iterator[tuple[Path, str]]:
    """Every module that any module of a package imports, also inside of functions."""
    folder = Path(str(bid_assets.__file__)).parent / package
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module
            elif isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_only_packages_of_lower_layers(package: str) -> None:
    above = LAYERS[LAYERS.index(package) + 1 :]
    upward = {
        (path.name, module)
        for path, module in imports_of(package)
        for other in above
        if f"{module}.".startswith(f"bid_assets.{other}.")
    }
    assert not upward


def test_the_command_line_leaves_dagster_to_orchestration() -> None:
    assert not [(path.name, module) for path, module in imports_of("cli") if module.partition(".")[0] == "dagster"]


def imported_by(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*(name.partition('.')[0] for name in sys.modules))"
    return set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split())


def test_the_code_location_loads_without_the_heavy_libraries() -> None:
    assert not imported_by("import bid_assets.definitions") & set(HEAVY)


def test_importing_the_package_imports_nothing_and_its_api_neither_dagster_nor_a_database() -> None:
    assert not imported_by("import bid_assets") & {*HEAVY, "dagster", "pandas", "numpy", "pyarrow", "pydantic"}
    assert not imported_by("from bid_assets import load_model") & {*HEAVY, "dagster", "sqlalchemy", "psycopg2"}


def test_the_command_line_loads_without_dagster_pandas_and_pydantic() -> None:
    assert not imported_by("import bid_assets.cli") & {*HEAVY, "dagster", "pandas", "pyarrow", "pydantic", "sqlalchemy"}


def test_rollback_and_approve_load_without_numpy_and_arrow() -> None:
    assert not imported_by("import bid_assets.cli.deployments") & {*HEAVY, "numpy", "pyarrow"}


def test_the_prediction_service_loads_without_what_trains_models() -> None:
    assert not imported_by("import bid_assets.serving.app") & ({*HEAVY, "pandas", "scipy"} - {"adbc_driver_manager"})


@pytest.mark.parametrize(
    "package",
    [
        "common",
        "embedded_postgres",
        "app_db",
        "version_store",
        "deployments",
        "prediction_log",
        "features",
        "modelling",
        "model_card",
        "serving",
        "simulation",
    ],
)
def test_the_pure_packages_do_not_know_dagster(package: str) -> None:
    modules = (
        f"import importlib, pkgutil, bid_assets.{package} as found\n"
        f"for module in pkgutil.walk_packages(found.__path__, 'bid_assets.{package}.'): importlib.import_module(module.name)"
    )
    assert "dagster" not in imported_by(modules)


def private_names_of_libraries(path: Path) -> Iterator[str]:
    """Attributes with a leading underscore that the module does not define itself, and modules so named."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            yield from {node.attr} - own
        elif isinstance(node, ast.ImportFrom) and node.module and "._" in f".{node.module.replace('__', '')}":
            yield node.module


def test_private_parts_of_libraries_are_not_touched_but_of_dagster_in_orchestration() -> None:
    package = Path(str(bid_assets.__file__)).parent
    without_public_name = {"_exit", "_strip_protocol"}  # of os, documented; of fsspec, what its file systems redefine
    touched = {
        (str(path.relative_to(package)), name)
        for path in sorted(package.rglob("*.py"))
        if package / "orchestration" not in path.parents
        for name in private_names_of_libraries(path)
    }
    assert not {(path, name) for path, name in touched if name not in without_public_name}


def test_modules_and_functions_fit_on_a_screen_or_a_few() -> None:
    too_long = []
    for path in sorted(Path(str(bid_assets.__file__)).parent.rglob("*.py")):
        text = path.read_text()
        if (lines := text.count("\n")) > MAX_MODULE_LINES:
            too_long.append(f"{path.name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                too_long += [f"{path.name}: {node.name} has {lines} lines"] if lines > MAX_FUNCTION_LINES else []
    assert not too_long
