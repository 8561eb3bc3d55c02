"""Files are imported into tables that the application made, of whatever kind and types; what does not fit is named by file, row
and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bid_assets.app_db.importing.importer import ImportRefusedError, import_directory
from bid_assets.app_db.importing.staging import find_refusals
from bid_assets_tests.app_db.database import execute, rows

UUID = "aaaaaaaa-0000-0000-0000-00000000000a"
TABLES = {
    "profiles": "CREATE TABLE profiles (id text PRIMARY KEY, name text)",
    "jobs": "CREATE TABLE jobs (id text PRIMARY KEY)",
    "bids": "CREATE TABLE bids (id text PRIMARY KEY, profile_id text, job_id text, amount numeric, submitted_at timestamptz)",
    "bid_outcomes": (
        "CREATE TABLE bid_outcomes (id text PRIMARY KEY, bid_id text, is_success boolean, outcome_timestamp timestamptz)"
    ),
}


def made(url: str, **tables: str) -> str:
    """The application's tables, some of them otherwise."""
    execute(url, ";".join((TABLES | tables).values()))
    return url


def folder(path: Path, **files: str) -> Path:
    for table, text in files.items():
        (path / f"{table}.csv").write_text(text)
    return path


def counts(url: str, path: Path, table: str) -> tuple[int, int, int]:
    """Inserted, updated, unchanged."""
    done = import_directory(url, path).counts[table]
    return done.inserted, done.updated, done.unchanged


def problems(url: str, path: Path) -> list[str]:
    with pytest.raises(ImportRefusedError) as caught:
        import_directory(url, path)
    assert not {"SELECT", "INSERT", "import_row"} & set(str(caught.value).split())
    return [str(problem) for problem in caught.value.problems]


KINDS_OF_TABLES = {
    "partitioned": "CREATE TABLE profiles (id integer PRIMARY KEY, name text) PARTITION BY HASH (id);"
    "CREATE TABLE profiles_0 PARTITION OF profiles FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
    "CREATE TABLE profiles_1 PARTITION OF profiles FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "partitioned by another column": "CREATE TABLE profiles (id integer, name text) PARTITION BY LIST (name);"
    "CREATE TABLE profiles_0 PARTITION OF profiles FOR VALUES IN ('Ann');"
    "CREATE TABLE profiles_1 PARTITION OF profiles DEFAULT",
    "identity": "CREATE TABLE profiles (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)",
    "serial": "CREATE TABLE profiles (id serial PRIMARY KEY, name text)",
    "view": "CREATE TABLE people (id integer PRIMARY KEY, name text, hidden text DEFAULT 'x');"
    "CREATE VIEW profiles AS SELECT id, name FROM people",
    "without key": "CREATE TABLE profiles (id integer, name text)",
    "domain": "CREATE DOMAIN number AS integer CHECK (value > 0); CREATE DOMAIN person AS number;"
    "CREATE TABLE profiles (id person PRIMARY KEY, name text)",
}


@pytest.mark.parametrize("kind", KINDS_OF_TABLES)
def test_rows_are_inserted_updated_and_left_alone_whatever_the_table_is(app_db: str, tmp_path: Path, kind: str) -> None:
    made(app_db, profiles=KINDS_OF_TABLES[kind])
    assert counts(app_db, folder(tmp_path, profiles="id,name\n1,Ann\n2,Bob\n"), "profiles") == (2, 0, 0)
    assert counts(app_db, folder(tmp_path, profiles="id,name\n2,Eve\n003,Cy\n01,Ann\n"), "profiles") == (1, 1, 1)
    assert rows(app_db, "SELECT id, name FROM profiles ORDER BY id") == [(1, "Ann"), (2, "Eve"), (3, "Cy")]


@pytest.mark.parametrize("kind", ["identity", "serial"])
def test_the_application_draws_no_id_that_was_imported(app_db: str, tmp_path: Path, kind: str) -> None:
    made(app_db, profiles=KINDS_OF_TABLES[kind])
    import_directory(app_db, folder(tmp_path, profiles="id\n1\n7\n"))
    execute(app_db, "INSERT INTO profiles (name) VALUES ('drawn')")
    assert rows(app_db, "SELECT id FROM profiles WHERE name = 'drawn'") == [(8,)]


def test_a_column_that_the_database_computes_is_left_to_it_and_named(app_db: str, tmp_path: Path) -> None:
    made(
        app_db,
        profiles="CREATE TABLE profiles"
        " (id text PRIMARY KEY, name text GENERATED ALWAYS AS ('Mx ' || id) STORED, skills text[])",
    )
    report = import_directory(app_db, folder(tmp_path, profiles='id,name,skills\np1,Ann,"[""go"", ""c, d""]"\np2,Bob,\n'))
    assert report.ignored_columns == {"profiles.csv": ["name"]}
    assert rows(app_db, "SELECT * FROM profiles ORDER BY id") == [("p1", "Mx p1", ["go", "c, d"]), ("p2", "Mx p2", None)]


@pytest.mark.parametrize("header", ["id,name\n007,Ann\n7,Bob\n", "id\n007\n7\n"])
def test_two_rows_of_a_file_that_are_one_id_in_the_database_are_refused(app_db: str, tmp_path: Path, header: str) -> None:
    made(app_db, profiles="CREATE TABLE profiles (id integer PRIMARY KEY, name text)")
    assert problems(app_db, folder(tmp_path, profiles=header)) == [
        "profiles.csv, line 3: id '7' is one id in the database with '007' before it"
    ]
    assert rows(app_db, "SELECT count(*) FROM profiles") == [(0,)]


@pytest.mark.parametrize(
    ("id_type", "stored", "spelling"),
    [
        ("uuid", UUID, UUID.upper()),
        ("uuid", UUID, f"{{{UUID}}}"),
        ("integer", "7", "007"),
        ("numeric", "7.00", "7"),
        ("char(4)", "p1", "p1 "),
    ],
)
def test_a_reference_is_compared_as_the_column_compares_it(
    app_db: str, tmp_path: Path, id_type: str, stored: str, spelling: str
) -> None:
    made(
        app_db,
        profiles=f"CREATE TABLE profiles (id {id_type} PRIMARY KEY); INSERT INTO profiles VALUES ('{stored}')",
        bids=TABLES["bids"].replace("profile_id text", f"profile_id {id_type}"),
    )
    assert counts(
        app_db, folder(tmp_path, bids=f"id,profile_id,job_id,submitted_at\nb1,{spelling},j1,2024-05-06\n"), "bids"
    ) == (1, 0, 0)


@pytest.mark.parametrize(
    ("table", "text", "reason"),
    [
        (
            "id integer PRIMARY KEY, name text",
            "id,name\n1,Ann\nabc,Bob\n",
            "id 'abc': invalid input syntax for type integer: \"abc\"",
        ),
        ("id smallint PRIMARY KEY", "id\n1\n70000\n", "id '70000': value \"70000\" is out of range for type smallint"),
        (
            "id text PRIMARY KEY, name varchar(3)",
            "id,name\n1,Ann\n2,Anna\n",
            "name 'Anna': value too long for type character varying(3)",
        ),
        ("id text PRIMARY KEY, name char(3)", "id,name\n1,Ann\n2,Anna\n", "name 'Anna': value too long for type character(3)"),
        (
            "id text PRIMARY KEY, profile_type kind",
            "id,profile_type\n1,agency\n2,shop\n",
            "profile_type 'shop': invalid input value for enum kind: \"shop\"",
        ),
        (
            "id text PRIMARY KEY, name short",
            "id,name\n1,Ann\n2,Anna\n",
            "name 'Anna': value for domain short violates check constraint \"short_check\"",
        ),
        ("id text PRIMARY KEY, skills jsonb", "id,skills\n1,[]\n2,[\n", "skills '[': invalid input syntax for type json"),
        (
            "id text PRIMARY KEY, name text NOT NULL",
            "id,name\n1,Ann\n2,\n",
            'the database refuses it: null value in column "name" of relation "profiles" violates not-null constraint',
        ),
        (
            "id text PRIMARY KEY, name text UNIQUE",
            "id,name\n1,Ann\n2,Ann\n",
            'the database refuses it: duplicate key value violates unique constraint "profiles_name_key"',
        ),
    ],
)
def test_what_the_table_cannot_hold_is_named_by_file_row_and_column(
    app_db: str, tmp_path: Path, table: str, text: str, reason: str
) -> None:
    execute(app_db, "CREATE TYPE kind AS ENUM ('agency'); CREATE DOMAIN short AS text CHECK (length(value) < 4)")
    made(app_db, profiles=f"CREATE TABLE profiles ({table})")
    assert problems(app_db, folder(tmp_path, profiles=text)) == [f"profiles.csv, line 3: {reason}"]
    assert rows(app_db, "SELECT count(*) FROM profiles") == [(0,)]


@pytest.mark.parametrize(
    ("column", "value", "exact", "reason"),
    [
        ("amount integer", "12.5", "12.0", "amount 12.5: the column is of type integer and would hold 12"),
        ("amount bigint", "0.9", "1e15", "amount 0.9: the column is of type bigint and would hold 1"),
        ("amount numeric(10, 2)", "12.345", "12.34", "amount 12.345: the column is of type numeric and would hold 12.35"),
        ("amount cents", "0.999", "0.99", "amount 0.999: the column is of type numeric and would hold 1.00"),
        (
            "submitted_at date",
            "2024-05-06T12:00:00Z",
            "2024-05-06T00:00:00Z",
            "submitted_at 2024-05-06T12:00:00+00:00: the column is of type date and would hold 2024-05-06",
        ),
        (
            "submitted_at timestamp(0)",
            "2024-05-06T12:00:00.5Z",
            "2024-05-06T12:00:01Z",
            "submitted_at 2024-05-06T12:00:00.500000+00:00: the column is of type timestamp without time zone and would hold"
            " 2024-05-06 12:00:01",
        ),
    ],
)
def test_what_the_database_would_round_is_refused_by_file_row_and_column(
    app_db: str, tmp_path: Path, column: str, value: str, exact: str, reason: str
) -> None:
    name = column.split()[0]
    others = {"amount": "amount numeric", "submitted_at": "submitted_at timestamptz"}
    execute(app_db, "CREATE DOMAIN cents AS numeric(6, 2)")
    made(app_db, bids=TABLES["bids"].replace(others[name], column))
    execute(app_db, "INSERT INTO profiles VALUES ('p')")
    whole = {"amount": "1", "submitted_at": "2024-05-06", name: exact}
    line = "{0},p,j," + ",".join(whole.values()) + "\n"
    header = f"id,profile_id,job_id,{','.join(whole)}\n"
    wrong = line.format(2).replace(exact, value)
    assert problems(app_db, folder(tmp_path, bids=header + line.format(1) + wrong)) == [f"bids.csv, line 3: {reason}"]
    assert counts(app_db, folder(tmp_path, bids=header + line.format(1)), "bids") == (1, 0, 0)


def test_amounts_are_the_nearest_that_an_inexact_column_holds(app_db: str, tmp_path: Path) -> None:
    made(app_db, bids=TABLES["bids"].replace("amount numeric", "amount real"))
    execute(app_db, "INSERT INTO profiles VALUES ('p')")
    text = "id,profile_id,job_id,amount,submitted_at\nb,p,j,0.1,2024-05-06\n"
    assert counts(app_db, folder(tmp_path, bids=text), "bids") == (1, 0, 0)
    assert rows(app_db, "SELECT amount FROM bids") == [(pytest.approx(0.1),)]


def test_a_view_that_cannot_be_written_is_refused_in_the_database_s_own_words(app_db: str, tmp_path: Path) -> None:
    made(app_db, profiles="CREATE VIEW profiles AS SELECT 1 AS id UNION SELECT 2")
    assert problems(app_db, folder(tmp_path, profiles="id\n3\n")) == [
        'profiles.csv, line 2: the database refuses it: cannot insert into view "profiles"'
    ]


def test_a_result_may_be_any_integer_and_a_file_may_refer_to_another(app_db: str, tmp_path: Path) -> None:
    made(app_db, bid_outcomes=TABLES["bid_outcomes"].replace("boolean", "smallint"))
    import_directory(
        app_db,
        folder(
            tmp_path,
            profiles="id\np1\n",
            bids="id,profile_id,job_id,submitted_at\nb1,p1,j1,2024-05-06\n",
            bid_outcomes="id,bid_id,is_success,outcome_timestamp\no1,b1,true,2024-05-07\n",
        ),
    )
    assert rows(app_db, "SELECT is_success FROM bid_outcomes") == [(1,)]


def test_nothing_of_an_import_stays_on_its_connection_or_in_a_database_that_it_left_as_it_was(
    app_db: str, tmp_path: Path
) -> None:
    files = folder(tmp_path, bids="id,profile_id,job_id,submitted_at\nb1,p9,j1,2024-05-06\n")
    assert problems(app_db, files) == ["bids.csv, line 2: profile_id 'p9': there is no such profile"]
    assert rows(app_db, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 40), max_size=12))
def test_halving_finds_the_first_refused_rows_and_does_all_others_before_the_last_of_them(app_db: str, bad: set[int]) -> None:
    import psycopg2

    with psycopg2.connect(app_db) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE done (row integer)")
        listed = ", ".join(map(str, bad)) or "-1"

        def work(start: int, end: int) -> None:
            cursor.execute(
                f"INSERT INTO done SELECT n FROM generate_series({start}, {end - 1}) n"
                f" WHERE 1 / (CASE WHEN n IN ({listed}) THEN 0 ELSE 1 END) = 1"
            )

        refused = [row for row, _ in find_refusals(cursor, work, 41)]
        cursor.execute("SELECT row FROM done ORDER BY row")
        done = [row for (row,) in cursor.fetchall()]
        connection.rollback()
    assert refused == sorted(bad)[:10]
    assert done == [row for row in range(41) if row not in bad and (len(bad) < 10 or row < max(refused))]
