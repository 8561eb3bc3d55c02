"""Ids that the database calls equal and text does not: what refers to a row finds it, whoever asks, and arrives with its id.

Nondeterministic collations and citext need a server that is built with them, such as Debian's; the embedded one is not.
"""

from __future__ import annotations

import math
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.point_lookup import PointLookup
from bid_assets.app_db.queries import Queries
from bid_assets.common.windows import Cadence
from bid_assets_tests.app_db.database import MONDAY, WEEK, execute, read, rejections, rows
from bid_assets_tests.children import ending_with_parent
from bid_assets_tests.loops import eventually

DEBIAN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
UUID = "6f1c2d3e-0000-4000-8000-00000000000a"
ODD = f"{UUID[:4]}-{UUID[4:]}"


@dataclass(frozen=True)
class Ids:
    """Types of an id and of the references to it; ids that are stored, and spellings of them and of others."""

    column: str
    reference: str
    stored: tuple[str, ...]
    spellings: tuple[str, ...]
    unusual: tuple[str, ...] = ()
    """Those of the spellings that name a row by which no index finds them."""
    with_debian: bool = False


WORDS = ("p1", "P1", "p2", "P2", "x9")
KINDS = {
    "text": Ids("text", "varchar(9)", ("p1", "P1", "p2"), WORDS),
    "collations": Ids('text COLLATE "C"', 'text COLLATE "unicode"', ("p1", "P1", "p2"), WORDS),
    "padded": Ids("char(4)", "char(8)", ("p1", "p2"), ("p1", "p1  ", "p2", "x9")),
    "padded id": Ids("char(4)", "text", ("p1", "p2"), ("p1", "p1  ", "p2", "x9")),
    "padded reference": Ids("text", "char(8)", ("p1", "p2"), ("p1", "p2", "x9")),
    "numeric": Ids("numeric", "numeric", ("7", "8.10"), ("7", "7.00", "8.1", "9")),
    "numeric and integer": Ids("numeric", "integer", ("7.00", "8"), ("7", "8", "9")),
    "numeric and text": Ids("numeric", "text", ("7.00", "8"), ("7", "7.00", "7.0", "8", "x"), ("7.0",)),
    "integer and text": Ids("integer", "text", ("7", "8"), ("7", "007", "+8", "٧", "9" * 19, "9" * 40, "x"), ("007", "+8")),
    "uuid": Ids("uuid", "uuid", (UUID, UUID[:-1] + "b"), (UUID, UUID[:-1] + "b", UUID[:-1] + "c")),
    "uuid and text": Ids(
        "uuid",
        "text",
        (UUID, UUID[:-1] + "b"),
        (UUID, UUID.upper(), f"{{{UUID}}}", UUID.replace("-", ""), ODD, "x", "{" + UUID),
        (ODD,),
    ),
    "uuid and varchar": Ids("uuid", "varchar(50)", (UUID, UUID[:-1] + "b"), (UUID.upper(), ODD, "x"), (ODD,)),
    "text and integer": Ids("text", "integer", ("7", "08"), ("7", "8", "9")),
    "text and uuid": Ids("text", "uuid", (UUID, "x"), (UUID, UUID[:-1] + "c")),
    "citext": Ids("citext", "citext", ("p1", "P2"), WORDS, with_debian=True),
    "citext and text": Ids("citext", "text", ("p1", "P2"), WORDS, with_debian=True),
    "text and citext": Ids("text", "citext", ("p1", "P2"), WORDS, with_debian=True),
    "citext elsewhere": Ids("elsewhere.citext", "elsewhere.citext", ("p1", "P2"), WORDS, with_debian=True),
    "nondeterministic": Ids("text COLLATE any_case", "text COLLATE any_case", ("p1", "P2"), WORDS, with_debian=True),
    "nondeterministic id": Ids("text COLLATE any_case", "text", ("p1", "P2"), WORDS, with_debian=True),
    "nondeterministic reference": Ids("text", "text COLLATE any_case", ("p1", "P2"), WORDS, with_debian=True),
}


@pytest.fixture(scope="session")
def debian_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """A server with ICU and citext; None where the machine has none."""
    if DEBIAN is None:
        yield None
        return
    folder = Path(f"/tmp/bid_assets_tests-debian-{uuid4().hex[:8]}")
    folder.mkdir(mode=0o700)
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    as_user: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    url = f"postgresql://postgres@/postgres?host={folder}"
    data = ["-D", folder / "data"]
    try:
        initdb = [DEBIAN / "initdb", *data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(initdb, check=True, timeout=60, **as_user)
        server = subprocess.Popen(
            [DEBIAN / "postgres", *data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            stderr=subprocess.DEVNULL,
            preexec_fn=ending_with_parent(signal.SIGQUIT),  # which is PostgreSQL's immediate shutdown
            **as_user,
        )
        try:
            eventually(lambda: rows(url, "SELECT 1"), 60, "Debian's PostgreSQL to answer")
            yield url
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(60)
    finally:
        shutil.rmtree(folder)


def database(kind: Ids, debian_url: str | None, new_database: Callable[[], str]) -> str:
    """A database whose tables have ids of this kind."""
    if not kind.with_debian:
        url = new_database()
    elif debian_url is None:
        pytest.skip("no server with ICU and citext")
    else:
        name = f"ids_{uuid4().hex[:12]}"
        with closing(psycopg2.connect(debian_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name}")
        url = debian_url.replace("/postgres?", f"/{name}?")
        execute(
            url,
            f"CREATE SCHEMA elsewhere; CREATE EXTENSION citext {'SCHEMA elsewhere' if 'elsewhere' in kind.column else ''};"
            "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        )
    execute(
        url,
        f"""CREATE TABLE profiles (id {kind.column} PRIMARY KEY, name text);
        CREATE TABLE jobs (id {kind.column} PRIMARY KEY, client_id text);
        CREATE TABLE bids (id {kind.column} PRIMARY KEY, profile_id {kind.reference}, job_id {kind.reference},
            submitted_at timestamptz);
        CREATE TABLE bid_outcomes (id text PRIMARY KEY, bid_id {kind.reference}, is_success boolean,
            outcome_timestamp timestamptz)""",
    )
    return url


def fill(url: str, kind: Ids, bids: list[tuple[str, str]], outcomes: list[str]) -> None:
    """As many of these bids as there are stored ids, in one week, and the outcomes, named by references."""
    written = {
        "profiles": [(each,) for each in kind.stored],
        "jobs": [(each, None) for each in kind.stored],
        "bids": [(name, *names, MONDAY) for name, names in zip(kind.stored, bids, strict=False)],
        "bid_outcomes": [(f"o{number}", name, True, MONDAY + WEEK) for number, name in enumerate(outcomes)],
    }
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE profiles, jobs, bids, bid_outcomes")
        for table, some in written.items():
            for row in some:
                cursor.execute(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", row)


@pytest.mark.parametrize("name", KINDS)
def test_every_valid_bid_finds_its_profile_and_job_and_every_outcome_its_bid(
    name: str, debian_url: str | None, new_database: Callable[[], str]
) -> None:
    kind = KINDS[name]
    url = database(kind, debian_url, new_database)
    spelling = st.sampled_from([each for each in kind.spellings if kind.reference != "integer" or each.isdecimal()])
    size = len(kind.stored)

    @settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(spelling, spelling), min_size=size, max_size=size), st.lists(spelling, min_size=2, max_size=3))
    def holds(bids: list[tuple[str, str]], outcomes: list[str]) -> None:
        fill(url, kind, bids, outcomes)
        tables = read(url)
        raw = {table: tables[f"raw_{table}"] for table in ("bids", "bid_outcomes", "profiles", "jobs")}
        rejected = tables["rejected_rows"].to_pylist()
        for table, count in (("bids", size), ("bid_outcomes", len(outcomes))):
            ids = raw[table]["id"].to_pylist() + [row["id"] for row in rejected if row["table"] == table]
            assert len(ids) == len(set(ids)) == count
        jobs = raw["bids"]["job_id"].to_pylist()
        assert set(raw["bids"]["profile_id"].to_pylist()) == set(raw["profiles"]["id"].to_pylist())
        assert set(raw["bid_outcomes"]["bid_id"].to_pylist()) <= set(raw["bids"]["id"].to_pylist())
        names_profile, names_job = _named(url, kind, "profiles", bids), _named(url, kind, "jobs", bids)
        usual = [not set(names) & set(kind.unusual) for names in bids]
        assert raw["bids"].num_rows == sum(map(int.__mul__, names_profile, usual))
        known = {text for (text,) in rows(url, "SELECT id::text FROM jobs")}
        assert sum(job in known for job in jobs) == sum(map(math.prod, zip(names_profile, names_job, usual, strict=True)))
        assert set(jobs) & known == set(raw["jobs"]["id"].to_pylist())

    holds()
    _is_found_by_any_spelling(url, kind)


def _named(url: str, kind: Ids, table: str, bids: list[tuple[str, str]]) -> list[int]:
    """Whether the reference of each bid names a row: each is looked for alone, as the id column compares it."""
    sql_type = "bpchar" if kind.column == "char(4)" else kind.column.split(" COLLATE")[0]
    found = []
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET search_path = public, elsewhere")
        for each in bids:
            cursor.execute("SAVEPOINT one")
            try:
                cursor.execute(f"SELECT count(*) FROM {table} WHERE id = %s::{sql_type}", (each[table == "jobs"],))
                found.append(cursor.fetchone()[0])
            except psycopg2.DataError:  # which the column cannot hold
                cursor.execute("ROLLBACK TO SAVEPOINT one")
                found.append(0)
    return found


def _is_found_by_any_spelling(url: str, kind: Ids) -> None:
    """What the service looks up agrees with what was read."""
    plain = [stored.replace("-", "").lower() for stored in kind.stored]
    usual = [each for each in kind.spellings if each not in kind.unusual and each.strip("{}").replace("-", "").lower() in plain]
    asked = [*dict.fromkeys((*kind.spellings, *kind.stored))]
    pairs = [(usual[0], usual[-1]), *((usual[0], each) for each in kind.unusual), *((each, usual[0]) for each in kind.unusual)]
    with closing(PointLookup(url)) as lookup:
        for names in pairs:
            fill(url, kind, [names] * 2, [usual[0], *kind.unusual])
            tables = read(url)
            found = lookup.fetch(asked, asked, MONDAY - WEEK, MONDAY + WEEK)
            profiles = tables["raw_bids"]["profile_id"].to_pylist()
            profile_of = dict(zip(tables["raw_bids"]["id"].to_pylist(), profiles, strict=True))
            with_outcome = [profile_of[each] for each in tables["raw_bid_outcomes"]["bid_id"].to_pylist()]
            for each in asked:
                alone = lookup.fetch([each], [each], MONDAY - WEEK, MONDAY + WEEK)
                row = alone.profiles.get(each)
                assert found.profiles.get(each) == row
                counts = (0, 0) if row is None else (profiles.count(row["id"]), with_outcome.count(row["id"]))
                assert (len(alone.profile_history.owners), len(alone.profile_history.outcome_ids)) == counts
                assert found.profile_history.owners.count(each) == counts[0]
            assert {row["id"] for row in found.jobs.values()} >= set(tables["raw_jobs"]["id"].to_pylist())


@pytest.mark.parametrize(
    ("id_type", "stored", "spelling"), [("bigint", "7", "007"), ("uuid", UUID, ODD), ("numeric", "7", "7.0")]
)
def test_a_spelling_that_no_index_finds_is_rejected_in_words(app_db: str, id_type: str, stored: str, spelling: str) -> None:
    kind = Ids(id_type, "text", (stored,), (stored, spelling))
    database(kind, None, lambda: app_db)
    for names, outcome, rejected in (
        ((spelling, stored), stored, ("bids", f"profile_id {spelling} is an unusual spelling of the id {stored}")),
        ((stored, spelling), stored, ("bids", f"job_id {spelling} is an unusual spelling of the id {stored}")),
        ((stored, stored), spelling, ("bid_outcomes", f"bid_id {spelling} is an unusual spelling of the id {stored}")),
    ):
        fill(app_db, kind, [names], [outcome])
        table, reason = rejected
        assert any(row[1] == table and row[3].startswith(reason) for row in rejections(app_db))


@pytest.mark.parametrize(("id_type", "reference"), [("uuid", "text"), ("bigint", "text"), ("text", "uuid"), ("text", "bigint")])
def test_the_bids_and_outcomes_of_a_row_are_found_by_their_indexes_where_types_differ(
    app_db: str, id_type: str, reference: str
) -> None:
    database(Ids(id_type, reference, (), ()), None, lambda: app_db)
    name = "lpad(n::text, 32, '0')::uuid::{0}" if "uuid" in (id_type, reference) else "n::{0}"
    own, other = name.format(id_type), name.format(reference)
    execute(
        app_db,
        f"""INSERT INTO profiles SELECT {own} FROM generate_series(1, 2000) n;
        INSERT INTO jobs SELECT {own} FROM generate_series(1, 2000) n;
        INSERT INTO bids SELECT {own}, {other}, {other}, '{MONDAY.isoformat()}' FROM generate_series(1, 2000) n;
        INSERT INTO bid_outcomes SELECT n::text, {other}, true, '{MONDAY.isoformat()}' FROM generate_series(1, 2000) n;
        CREATE INDEX ON bids (profile_id, submitted_at); CREATE INDEX ON bids (job_id, submitted_at);
        CREATE INDEX ON bid_outcomes (bid_id); CREATE INDEX ON jobs (client_id); ANALYZE""",
    )
    with psycopg2.connect(app_db) as connection, connection.cursor() as cursor:
        queries = Queries(contract_columns(cursor), Cadence.WEEKLY)
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        statement = f"SELECT count(*) FROM {queries.outcomes_of(f'({queries.bids_of_profiles()})')}"
        cursor.execute(f"PREPARE find (text[], timestamptz, timestamptz) AS {statement}")
        cursor.execute("SELECT id::text FROM profiles LIMIT 1")
        cursor.execute("EXPLAIN EXECUTE find (%s, %s, 'infinity')", (list(cursor.fetchone()), MONDAY))
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan on bid" not in plan, plan


@pytest.mark.parametrize("id_type", ["bigint", "smallint", "uuid", "numeric", "char(3)", "date", "text"])
def test_no_text_that_somebody_asks_about_is_an_error_or_keeps_the_others_of_its_batch_from_being_found(
    app_db: str, id_type: str
) -> None:
    known = {"uuid": UUID, "date": "2024-01-01"}.get(id_type, "1")
    execute(
        app_db,
        f"""CREATE TABLE profiles (id {id_type} PRIMARY KEY); CREATE TABLE jobs (id {id_type} PRIMARY KEY, client_id {id_type});
        CREATE TABLE bids (id {id_type} PRIMARY KEY, profile_id {id_type}, job_id {id_type}, submitted_at timestamptz);
        CREATE TABLE bid_outcomes (id text PRIMARY KEY, bid_id {id_type}, is_success boolean, outcome_timestamp timestamptz);
        INSERT INTO profiles VALUES ('{known}'); INSERT INTO jobs VALUES ('{known}', '{known}');
        INSERT INTO bids VALUES ('{known}', '{known}', '{known}', '{MONDAY.isoformat()}')""",
    )
    odd = ["１", "१", "٣", "", " ", "+", "-", "1e9", "1.", "1_0", "0x1", "9" * 18, "9" * 19, "9" * 60, "9" * 200_000, "NaN"]
    odd += ["\ud800", "a\0b", "{", f"{{{UUID}", UUID + "0", "infinity", "now", "\n", "1'", "ß" * 9]

    @settings(max_examples=5)
    @given(st.lists(st.text(), max_size=9))
    def holds(texts: list[str]) -> None:
        texts = [each for each in dict.fromkeys([*odd, *texts]) if each.strip() not in (known, f"+{known}")]
        found = lookup.fetch([*texts, known], [*texts, known], MONDAY, MONDAY + WEEK, [*texts, known])
        assert known in found.profiles
        assert known in found.jobs
        assert (found.profile_history.owners.count(known), found.client_history.owners.count(known)) == (1, 1)

    with closing(PointLookup(app_db)) as lookup:
        assert lookup.fetch(odd[:1], [], MONDAY, MONDAY + WEEK).profiles == {}
        holds()


def test_the_largest_ids_of_a_bigint_column_are_known(app_db: str) -> None:
    largest = str(2**63 - 1)
    execute(
        app_db,
        "CREATE TABLE profiles (id bigint PRIMARY KEY); CREATE TABLE jobs (id text PRIMARY KEY);"
        "CREATE TABLE bids (id text PRIMARY KEY, profile_id bigint, job_id text, submitted_at timestamptz);"
        "CREATE TABLE bid_outcomes (id text PRIMARY KEY, bid_id text, is_success boolean, outcome_timestamp timestamptz);"
        f"INSERT INTO profiles VALUES ({largest}), (-{largest})",
    )
    with closing(PointLookup(app_db)) as lookup:
        assert set(lookup.fetch([largest, f"-{largest}", str(2**63)], [], MONDAY, MONDAY + WEEK).profiles) == {
            largest,
            f"-{largest}",
        }


def test_ids_that_a_database_of_another_encoding_cannot_hold_are_unknown(new_database: Callable[[], str], app_db: str) -> None:
    latin = f"latin_{uuid4().hex[:12]}"
    with closing(psycopg2.connect(app_db)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {latin} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
        url = app_db.replace(app_db.split("/")[3].split("?")[0], latin)
        execute(
            url,
            "CREATE TABLE profiles (id text PRIMARY KEY); CREATE TABLE jobs (id text PRIMARY KEY);"
            "CREATE TABLE bids (id text PRIMARY KEY, profile_id text, job_id text, submitted_at timestamptz);"
            "CREATE TABLE bid_outcomes (id text PRIMARY KEY, bid_id text, is_success boolean, outcome_timestamp timestamptz);"
            "INSERT INTO profiles VALUES ('plain')",
        )
        with closing(PointLookup(url)) as lookup:
            assert set(lookup.fetch(["plain", "日本"], [], MONDAY, MONDAY + WEEK).profiles) == {"plain"}
        connection.cursor().execute(f"DROP DATABASE {latin}")
