"""What must not be imported: start-up stays quick because heavy libraries come when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "sentence_transformers", "transformers", "xgboost", "sklearn", "matplotlib", "adbc_driver_manager", "polars")


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
