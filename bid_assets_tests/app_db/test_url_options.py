"""What a URL's options say holds in every connection, directly and through PgBouncer, and nothing is left on a shared
session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from bid_assets.app_db.connections import (
    DatabaseRefusalError,
    DatabaseUnreachableError,
    connect,
    engine,
    parse_options,
    snapshot,
)
from bid_assets.app_db.contract import ContractError
from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.importing.importer import import_directory
from bid_assets.app_db.point_lookup import PointLookup
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.settings import Settings
from bid_assets.simulation.write import MarketInUseError, lock_market
from bid_assets_tests.app_db.database import MONDAY, execute, rows, snapshot_of
from bid_assets_tests.proxies import pgbouncer

WEEK = timedelta(days=7)
OPTIONS = "options=-csearch_path%3Dapp%20-cstatement_timeout%3D54321%20--application-name%3Dbidder"
STATE = "SELECT current_setting('search_path'), current_setting('statement_timeout'), current_setting('application_name')"
SET = ("app", "54321ms", "bidder")


@pytest.fixture(scope="module", params=["direct", "pgbouncer", "pgbouncer that ignores options"])
def reached(
    request: pytest.FixtureRequest, postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """From the URL of a database to the URL by which it is reached."""
    if request.param == "direct":
        yield lambda url: url
        return
    with pgbouncer(postgres, tmp_path_factory.mktemp("pgbouncer"), ignores_options="ignores" in request.param) as address:
        yield lambda url: address + urlsplit(url).path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "profiles.csv").write_text("id,name\np1,Ann\n")
    (tmp_path / "jobs.csv").write_text("id\nj1\n")
    (tmp_path / "bids.csv").write_text(f"id,profile_id,job_id,submitted_at\nb1,p1,j1,{MONDAY.isoformat()}\n")
    return tmp_path


@pytest.fixture
def url(app_db: str, reached: Callable[[str], str]) -> str:
    """A database with an empty schema `app`, by a URL that means it."""
    execute(app_db, "create schema app")
    plain = reached(app_db)
    return f"{plain}{'&' if '?' in plain else '?'}{OPTIONS}"


def left_behind(plain: str) -> set[tuple[str, ...]]:
    """What two sessions of a pool say of themselves to whom they are lent next."""
    seen = set()
    with closing(psycopg2.connect(plain)) as one, closing(psycopg2.connect(plain)) as other:
        for connection in (one, other):
            cursor = connection.cursor()
            cursor.execute(
                "SELECT current_setting('search_path'), current_setting('statement_timeout'), "
                "current_setting('default_transaction_read_only'), current_setting('transaction_read_only'), "
                "(SELECT count(*) FROM pg_prepared_statements)::text, "
                "(SELECT count(*) FROM pg_class WHERE relpersistence = 't')::text, "
                "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')::text"
            )
            seen.add(cursor.fetchone())
    return seen


def test_every_way_to_connect_keeps_what_the_url_says(url: str, files: Path, app_db: str) -> None:
    report = import_directory(url, files)
    assert report.counts["bids"].inserted == 1
    assert {schema for (schema,) in rows(app_db, "select schemaname::text from pg_tables where tablename = 'bids'")} == {"app"}
    with snapshot_of(url) as taken:
        with taken._pool.cursor() as cursor:
            cursor.execute(STATE)
            assert cursor.fetchall() == [SET]
        assert taken.read(taken.extent())["raw_bids"]["id"].to_pylist() == ["b1"]
    with snapshot(url) as cursor:
        cursor.execute(STATE)
        assert cursor.fetchone() == SET
    made = engine(url)
    with made.begin() as connection:
        assert connection.exec_driver_sql(STATE).one() == SET
    made.dispose()
    lookup = PointLookup(url)
    assert lookup.fetch(["p1"], ["j1"], MONDAY, MONDAY + WEEK).profile_history.owners == ["p1"]
    lookup.close()
    assert import_directory(url, files).counts["bids"].unchanged == 1


def test_look_ups_side_by_side_answer_and_leave_nothing_on_the_sessions(url: str, files: Path, app_db: str) -> None:
    import_directory(url, files)
    plain = url.partition("&options" if "&options" in url else "?options")[0]
    with closing(connect(plain)) as connection:
        pooled = connection.is_pooled
    assert pooled == ("127.0.0.1" in plain)
    before = left_behind(plain)
    lookup, answers = PointLookup(url), []

    def ask() -> None:
        for _ in range(15):
            found = lookup.fetch(["p1", "it's $1 %s \\ p"], ["j1"], MONDAY, MONDAY + WEEK)
            answers.append((set(found.profiles), set(found.jobs), found.profile_history.owners))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == 90 * [({"p1"}, {"j1"}, ["p1"])]
    assert left_behind(plain) == before
    lookup.close()


def test_a_schema_that_is_not_there_is_named_and_no_table_is_made_elsewhere(app_db: str, files: Path) -> None:
    with pytest.raises(ContractError, match="no schema absent"):
        import_directory(f"{app_db}&options=-csearch_path%3Dabsent%2Cpublic", files)
    assert rows(app_db, "select count(*) from pg_tables where tablename = 'bids'") == [(0,)]


@pytest.mark.parametrize("schema", ["app", "Our App", 'odd"\\name'])
def test_the_schema_may_be_a_setting_beside_other_options(app_db: str, files: Path, settings: Settings, schema: str) -> None:
    execute(app_db, 'create schema "{}"'.format(schema.replace('"', '""')))
    given = f"{settings.app_db_url}&options=-capplication_name%3Dbidder"
    url = app_db_url(settings.model_copy(update={"app_db_schema": schema, "app_db_url": given}))
    import_directory(url, files)
    assert rows(str(settings.app_db_url), "select schemaname::text from pg_tables where tablename = 'bids'") == [(schema,)]
    assert rows(url, "select current_setting('application_name'), current_schema()::text") == [("bidder", schema)]


def test_the_simulated_market_is_refused_through_a_pooler(postgres: EmbeddedServer, tmp_path: Path) -> None:
    with (
        pgbouncer(postgres, tmp_path) as address,
        closing(connect(f"{address}/postgres")) as connection,
        pytest.raises(MarketInUseError, match="PgBouncer"),
    ):
        lock_market(connection.cursor(), until="session")


def test_an_option_that_is_none_is_said_by_name(app_db: str) -> None:
    with pytest.raises((DatabaseRefusalError, DatabaseUnreachableError), match="no_such_thing"):
        connect(f"{app_db}&options=-cno_such_thing%3D1")


def test_options_are_read_as_libpq_escapes_them() -> None:
    assert parse_options(r"-c a=b -cc=d\ e --f-g=\\") == {"a": "b", "c": "d e", "f_g": "\\"}
    with pytest.raises(ValueError, match="-c name=value"):
        parse_options("-d 5")


@pytest.mark.parametrize(
    "limits",
    ["idle_in_transaction_session_timeout = '300ms'", "statement_timeout = '200ms'", "default_transaction_read_only = on"],
)
def test_a_roles_limits_for_its_everyday_do_not_keep_windows_from_being_read(app_db: str, files: Path, limits: str) -> None:
    import_directory(app_db, files)
    role = f"reader_{urlsplit(app_db).path[6:]}"
    execute(app_db, f"create role {role} login; grant pg_read_all_data to {role}; alter role {role} set {limits}")
    try:
        with snapshot_of(app_db.replace("postgres@", f"{role}@", 1)) as taken, taken._pool.cursor() as cursor:
            cursor.execute("select pg_sleep(0.5)")
            threading.Event().wait(0.5)
            assert taken.extent() is not None
    finally:
        execute(app_db, f"drop owned by {role}; drop role {role}")
