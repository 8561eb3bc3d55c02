"""What tests share: one embedded PostgreSQL for the run, a fresh database, settings and Dagster instance for each test."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests and their children share few cores: threads would wait for each other

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import dagster as dg
import hypothesis
import psycopg2
import pytest

from bid_assets.embedded_postgres.server import EmbeddedServer, shared_server
from bid_assets.settings import Settings, get_settings

CHECKOUT = Path(__file__).parent.parent

os.environ["BID_ASSETS_ENCODER_CACHE"] = str(CHECKOUT / ".bid_assets" / "tests" / "encoders")  # not the cache of who tests

SMALL_MARKET = {
    "LABEL_MATURITY_DAYS": 7,
    "MAX_CALIBRATION_ERROR": 0.3,
    "FRESHER_TOLERANCE": 1,
    "MAX_ROC_AUC_LOSS": 1,
    "MAX_SLICE_HARM": 9,
}
"""Settings for markets of eight weeks: their holdout has a few hundred bids, and a figure of so few is mostly noise."""

# In CI the same examples every time: a change must not fail for what another day's chance would have found.
hypothesis.settings.register_profile("here", deadline=None, max_examples=50, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("here")


SHARED = pytest.StashKey[Path]()


WAITING = (
    "test_soak",
    "test_loop",
    "test_loop_crashes",
    "test_ui",
    "test_up",
    "test_smoke",
    "test_commands",
    "test_io_managers",
)
"""Modules that wait for minutes. They come first, so that other workers compute meanwhile and none is left over at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the modules; within each the tests stay as they are. Mark what needs the server."""
    ranks = {name: rank for rank, name in enumerate(WAITING)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker("server")


def pytest_configure(config: pytest.Config) -> None:
    """One folder for what is made once per run; the server's user can reach it (pytest's own folders are closed to others)."""
    handed = getattr(config, "workerinput", {}).get("shared")
    folder = config.stash[SHARED] = Path(handed or tempfile.mkdtemp(prefix="bid_assets_tests-"))
    folder.chmod(0o755)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called by pytest-xdist for each of its workers: they share the folder of the run."""
    node.workerinput["shared"] = str(node.config.stash[SHARED])


def pytest_unconfigure(config: pytest.Config) -> None:
    """The folder goes when all workers have gone."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[SHARED], ignore_errors=True)


@pytest.fixture(autouse=True)
def usual_umask() -> None:
    """Commands that a test calls in this process make it private for all that comes after."""
    os.umask(0o022)


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[EmbeddedServer]:
    """The run's server: workers share it as any processes do."""
    running = shared_server(pytestconfig.stash[SHARED] / "postgres", durable=False)
    yield running
    running.release()


@pytest.fixture
def new_database(postgres: EmbeddedServer) -> Iterator[Callable[[], str]]:
    """Makes fresh empty databases, and drops them at the end."""
    with fresh_databases(postgres) as make:
        yield make


@contextmanager
def one_worker_at_a_time(lock: Path) -> Iterator[None]:
    """What is made once per run is made by whichever worker is first, while others wait."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def fresh_databases(postgres: EmbeddedServer) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database and gives its URL; all of them are dropped at the end."""
    names: list[str] = []

    def make() -> str:
        names.append(f"test_{uuid4().hex[:12]}")
        return postgres.url(names[-1])

    yield make
    administer(postgres, *(f"drop database if exists {name} with (force)" for name in names))


def administer(postgres: EmbeddedServer, *statements: str) -> None:
    """Statements about whole databases, which bear no transaction."""
    connection = psycopg2.connect(postgres.url("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def seal(postgres: EmbeddedServer, *names: str) -> None:
    """Make templates of databases: nobody is connected to them, and nobody can be."""
    hermits = (f"alter database {name} with allow_connections false" for name in names)
    listed = ", ".join(f"'{name}'" for name in names)
    leave = f"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname in ({listed})"
    administer(postgres, *hermits, leave)


@pytest.fixture(scope="session")
def dagster_template(postgres: EmbeddedServer) -> str:
    """The name of a database with Dagster's tables, made by whichever worker is first: to copy it takes a fifth of
    making them."""
    from bid_assets.orchestration.instance import open_instance

    name, folder = "dagster_template", postgres.folder.parent / "dagster"
    with one_worker_at_a_time(postgres.folder.parent / "dagster.lock"):
        if not folder.exists():
            url = postgres.url(name)
            with TemporaryDirectory() as home, settings_for(Path(home), url, url), open_instance() as instance:
                instance.get_runs(limit=1)
            seal(postgres, name)
            folder.mkdir()
    return name


@contextmanager
def copied_databases(postgres: EmbeddedServer, *templates: str) -> Iterator[list[str]]:
    """The URLs of copies of these templates, which are dropped at the end."""
    names = [f"test_{uuid4().hex[:12]}" for _ in templates]
    administer(postgres, *(f"create database {new} template {old}" for new, old in zip(names, templates, strict=True)))
    try:
        yield [postgres.url(name) for name in names]
    finally:
        administer(postgres, *(f"drop database {name} with (force)" for name in names))


@pytest.fixture
def dagster_db(postgres: EmbeddedServer, dagster_template: str) -> Iterator[str]:
    """The URL of a database with Dagster's tables, all empty."""
    with copied_databases(postgres, dagster_template) as [url]:
        yield url


@pytest.fixture
def app_db(new_database: Callable[[], str]) -> str:
    """The URL of an application's database without any table."""
    return new_database()


@contextmanager
def settings_for(folder: Path, app_db_url: str, dagster_db_url: str, **values: object) -> Iterator[Settings]:
    """Settings with their home in `folder`, in the environment too, so that child processes agree."""
    values = {
        "HOME": folder / "home",
        "APP_DB_URL": app_db_url,
        "DAGSTER_DB_URL": dagster_db_url,
        "ENCODER": "static",
        **SMALL_MARKET,
        **values,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in values.items():
            patch.setenv(f"BID_ASSETS_{name}", str(value))
        patch.setenv("DAGSTER_HOME", str(CHECKOUT))
        get_settings.cache_clear()
        yield get_settings()
        get_settings.cache_clear()


@pytest.fixture
def settings(app_db: str, dagster_db: str, tmp_path: Path) -> Iterator[Settings]:
    """The settings of a test."""
    with settings_for(tmp_path, app_db, dagster_db) as made:
        yield made


@pytest.fixture(scope="session")
def static_encoder() -> Path:
    """The folder of a static encoder, distilled once and kept between runs; `home / "encoders"` may be a link to its parent.

    One worker distils it (a minute) while others wait: two at a time would take longer than a test may.
    """
    from bid_assets.features.embeddings.model_files import static_model_folder

    folder = CHECKOUT / ".bid_assets" / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    with one_worker_at_a_time(folder / "distilling.lock"):
        return static_model_folder(folder)


@pytest.fixture
def dagster_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """A real instance, on PostgreSQL, with the checkout's `dagster.yaml`."""
    from bid_assets.orchestration.instance import open_instance

    with open_instance() as instance:
        yield instance
