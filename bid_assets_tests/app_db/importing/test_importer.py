"""Files are imported wholly or not at all."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.contract import ContractError
from bid_assets.app_db.importing.files import SourceFile
from bid_assets.app_db.importing.importer import ImportRefusedError, import_directory
from bid_assets_tests.app_db.database import execute, rows

GSOC = Path(__file__).parents[4] / "shared" / "data" / "gsoc_pulls"

PROFILES = 'id,name,skills\np1,Ada,"[""python""]"\np2,Bob,\n'
JOBS = "id,title,posted_at\nj1,A job,2024-01-01\n"
BIDS = (
    "id,profile_id,job_id,amount,generated_bid_text,submitted_at\n"
    'b1,p1,j1,10.5,"Hello,\n""you""",2024-01-02T10:00:00Z\n'
    "b2,p2,j1,,,2024-01-03 10:00:00+02:00\n"
)
OUTCOMES = "id,bid_id,is_success,outcome_timestamp\no1,b1,True,2024-01-05T00:00:00\no2,b2,0,2024-01-06\n"


def folder(path: Path, **tables: str) -> Path:
    files = {"profiles": PROFILES, "jobs": JOBS, "bids": BIDS, "bid_outcomes": OUTCOMES} | tables
    for table, text in files.items():
        (path / f"{table}.csv").write_text(text)
    return path


def refusal(url: str, path: Path) -> ImportRefusedError:
    with pytest.raises(ImportRefusedError) as caught:
        import_directory(url, path)
    return caught.value


def test_a_folder_of_csv_files_arrives_in_the_database(app_db: str, tmp_path: Path) -> None:
    report = import_directory(app_db, folder(tmp_path))
    assert {table: done.inserted for table, done in report.counts.items()} == {
        "profiles": 2,
        "jobs": 1,
        "bids": 2,
        "bid_outcomes": 2,
    }
    assert rows(app_db, "SELECT id, amount, generated_bid_text, submitted_at FROM bids ORDER BY id") == [
        ("b1", 10.5, 'Hello,\n"you"', datetime(2024, 1, 2, 10, tzinfo=UTC)),
        ("b2", None, None, datetime(2024, 1, 3, 8, tzinfo=UTC)),
    ]
    assert rows(app_db, "SELECT is_success, outcome_timestamp FROM bid_outcomes ORDER BY id") == [
        (True, datetime(2024, 1, 5, tzinfo=UTC)),
        (False, datetime(2024, 1, 6, tzinfo=UTC)),
    ]
    assert rows(app_db, "SELECT skills FROM profiles ORDER BY id") == [('["python"]',), (None,)]


def test_importing_twice_changes_nothing(app_db: str, tmp_path: Path) -> None:
    import_directory(app_db, folder(tmp_path))
    before = rows(app_db, "SELECT xmin::text, ctid::text, * FROM bids")
    report = import_directory(app_db, tmp_path)
    assert all((done.inserted, done.updated) == (0, 0) for done in report.counts.values())
    assert report.counts["bids"].unchanged == 2
    assert rows(app_db, "SELECT xmin::text, ctid::text, * FROM bids") == before


def test_a_row_with_other_content_is_updated_and_counted(app_db: str, tmp_path: Path) -> None:
    import_directory(app_db, folder(tmp_path))
    report = import_directory(app_db, folder(tmp_path, bids=BIDS.replace("10.5", "11")))
    assert (report.counts["bids"].updated, report.counts["bids"].unchanged) == (1, 1)
    assert rows(app_db, "SELECT amount FROM bids WHERE id = 'b1'") == [(11.0,)]


def test_columns_that_a_file_does_not_have_are_left_as_they_are(app_db: str, tmp_path: Path) -> None:
    import_directory(app_db, folder(tmp_path))
    report = import_directory(app_db, folder(tmp_path, profiles="id,name\np1,Ada\np2,Bob\n"))
    assert report.counts["profiles"].unchanged == 2
    assert rows(app_db, "SELECT skills FROM profiles WHERE id = 'p1'") == [('["python"]',)]


def test_gzip_and_parquet_files_are_read_as_well(app_db: str, tmp_path: Path) -> None:
    folder(tmp_path)
    with gzip.open(tmp_path / "jobs.csv.gz", "wt") as file:
        file.write(JOBS)
    (tmp_path / "jobs.csv").unlink()
    (tmp_path / "bids.csv").unlink()
    bids = pa.table(
        {
            "id": [1, 2],
            "profile_id": pa.array(["p1", "p2"]).dictionary_encode(),
            "job_id": ["j1", "j1"],
            "amount": [5, None],
            "bid_settings_snapshot": [{"budget": 3}, None],
            "submitted_at": pa.array([datetime(2024, 1, 2), datetime(2024, 1, 3)], pa.timestamp("ns")),  # noqa: DTZ001
        }
    )
    pq.write_table(bids, tmp_path / "bids.parquet")
    (tmp_path / "bid_outcomes.csv").write_text("id,bid_id,is_success,outcome_timestamp\no1,1,t,2024-01-05\n")
    import_directory(app_db, tmp_path)
    assert rows(app_db, "SELECT id, amount, bid_settings_snapshot, submitted_at FROM bids ORDER BY id") == [
        ("1", 5.0, '{"budget":3}', datetime(2024, 1, 2, tzinfo=UTC)),
        ("2", None, None, datetime(2024, 1, 3, tzinfo=UTC)),
    ]


def test_unknown_columns_are_ignored_and_named(app_db: str, tmp_path: Path) -> None:
    report = import_directory(app_db, folder(tmp_path, jobs="id,colour\nj1,red\n"))
    assert report.ignored_columns == {"jobs.csv": ["colour"]}
    assert "jobs.csv: ignored colour" in report.summary()


@pytest.mark.parametrize("text", ["id,title", "id,title\n", "id,title\n\n"])
def test_a_file_without_rows_is_fine(app_db: str, tmp_path: Path, text: str) -> None:
    report = import_directory(app_db, folder(tmp_path, jobs=text))
    assert (report.counts["jobs"].inserted, report.counts["bids"].inserted) == (0, 2)


def test_one_file_alone_may_refer_to_what_the_database_has(app_db: str, tmp_path: Path) -> None:
    import_directory(app_db, folder(tmp_path))
    for name in ("profiles", "jobs", "bids"):
        (tmp_path / f"{name}.csv").unlink()
    (tmp_path / "bid_outcomes.csv").write_text(OUTCOMES.replace("o1", "o3"))
    report = import_directory(app_db, tmp_path)
    assert (report.counts["bid_outcomes"].inserted, report.counts["bid_outcomes"].unchanged) == (1, 1)


@pytest.mark.parametrize(
    ("table", "text", "line", "reason"),
    [
        ("bids", BIDS.replace("submitted_at", "sent"), 1, "column submitted_at is missing"),
        ("bids", BIDS.replace("2024-01-03 10:00:00+02:00", "yesterday"), 4, "submitted_at 'yesterday' is not a time"),
        ("bids", BIDS.replace("2024-01-03 10:00:00+02:00", "2024-13-03"), 4, "submitted_at '2024-13-03' is not a time"),
        ("bids", BIDS.replace("2024-01-03 10:00:00+02:00", "now"), 4, "submitted_at 'now' is not a time"),
        ("bids", BIDS.replace("2024-01-03 10:00:00+02:00", ""), 4, "submitted_at is empty"),
        ("bids", BIDS.replace("10.5", "ten"), 2, "amount 'ten' is not a number"),
        ("bids", BIDS.replace("b2,p2", "b2,p9"), 4, "profile_id 'p9': there is no such profile"),
        ("bids", BIDS.replace("b2,p2", "b1,p2"), 4, "duplicate id 'b1'"),
        ("bids", BIDS.replace("b2,p2", " ,p2"), 4, "id is empty"),
        ("bids", BIDS.replace("Hello", "Hel\0lo"), 2, "generated_bid_text holds a NUL character"),
        ("bids", BIDS.replace("b2,p2,j1,,,", "b2,p2,"), 4, "3 fields, but the header has 6"),
        ("bid_outcomes", OUTCOMES.replace("o2,b2,0", "o2,b2,maybe"), 3, "is_success 'maybe' is not true or false"),
        ("bid_outcomes", OUTCOMES.replace("o2,b2,0", "o2,b2,"), 3, "is_success is empty"),
        ("bid_outcomes", OUTCOMES.replace("o2,b2", "o2,b7"), 3, "bid_id 'b7': there is no such bid"),
        ("profiles", "id,id\np1,p1\np2,p2\n", 1, "column id occurs twice"),
        ("profiles", "", 1, "column id is missing"),
    ],
)
def test_a_bad_file_is_refused_with_file_line_and_reason(
    app_db: str, tmp_path: Path, table: str, text: str, line: int, reason: str
) -> None:
    error = refusal(app_db, folder(tmp_path, **{table: text}))
    assert str(error.problems[0]).startswith(f"{table}.csv, line {line}: {reason}")
    assert rows(app_db, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_blank_lines_and_newlines_in_quotes_do_not_shift_the_line(app_db: str, tmp_path: Path) -> None:
    jobs = 'id,title\r\nj1,"one\r\ntwo\n\nthree"\r\n\r\nj1,"again"\r\n'
    (tmp_path / "jobs.csv").write_bytes(jobs.encode())
    assert [str(problem) for problem in refusal(app_db, tmp_path).problems] == ["jobs.csv, line 7: duplicate id 'j1'"]


def test_bytes_that_are_not_utf8_are_refused_with_their_line(app_db: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_bytes(b"id,title\nj1,fine\nj2,\xff\xfe\n")
    assert [str(problem) for problem in refusal(app_db, tmp_path).problems] == [
        "jobs.csv, line 3: holds bytes that are not UTF-8 (save the file as UTF-8)"
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(app_db: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("\ufeffid,title\nj1,A job\n")
    assert import_directory(app_db, tmp_path).counts["jobs"].inserted == 1


def test_a_parquet_row_is_named_by_its_number(app_db: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["j1", "j2", "j1"]}), tmp_path / "jobs.parquet")
    assert str(refusal(app_db, tmp_path).problems[0]) == "jobs.parquet, row 3: duplicate id 'j1'"


def test_a_file_that_is_not_what_its_name_says_is_refused(app_db: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv.gz").write_text("id\nj1\n")
    (tmp_path / "profiles.parquet").write_text("id\np1\n")
    assert [problem.file for problem in refusal(app_db, tmp_path).problems] == ["profiles.parquet", "jobs.csv.gz"]


def test_many_problems_are_counted_and_the_first_ones_shown(app_db: str, tmp_path: Path) -> None:
    lines = "".join(f"b{i},p1,j1,x,,2024-01-02\n" for i in range(25))
    error = refusal(app_db, folder(tmp_path, bids=BIDS.splitlines()[0] + "\n" + lines, bid_outcomes=OUTCOMES.splitlines()[0]))
    assert error.total == 25
    assert [problem.line for problem in error.problems] == list(range(2, 12))
    assert "25 problems" in str(error)
    assert "and 15 more" in str(error)


def test_a_folder_without_any_table_is_refused(app_db: str, tmp_path: Path) -> None:
    assert "holds none of profiles, jobs, bids, bid_outcomes" in str(refusal(app_db, tmp_path))


def test_two_files_of_one_table_are_refused(app_db: str, tmp_path: Path) -> None:
    folder(tmp_path)
    with gzip.open(tmp_path / "jobs.csv.gz", "wt") as file:
        file.write(JOBS)
    assert "more than one file of jobs" in str(refusal(app_db, tmp_path))


def test_what_the_database_itself_refuses_leaves_nothing_behind(app_db: str, tmp_path: Path) -> None:
    import_directory(app_db, folder(tmp_path))
    execute(app_db, "ALTER TABLE bids ADD CHECK (amount < 1000)")
    error = refusal(app_db, folder(tmp_path, profiles=PROFILES.replace("Ada", "Eve"), bids=BIDS.replace("10.5", "5000")))
    assert "bids.csv, line 2: the database refuses it: new row for relation" in str(error)
    assert rows(app_db, "SELECT name FROM profiles WHERE id = 'p1'") == [("Ada",)]


def test_tables_of_other_types_are_filled_by_casting(app_db: str, tmp_path: Path) -> None:
    execute(
        app_db,
        "CREATE TABLE profiles (id integer PRIMARY KEY, skills jsonb, name json);CREATE TABLE jobs (id uuid PRIMARY KEY, "
        "posted_at timestamp);CREATE TABLE bids (id bigint PRIMARY KEY, profile_id integer, job_id uuid, amount numeric(10, "
        "2), submitted_at timestamp);CREATE TABLE bid_outcomes (id text PRIMARY KEY, bid_id bigint, is_success integer, "
        "outcome_timestamp timestamptz)",
    )
    uuid = "6f1c2a9e-0000-4000-8000-000000000001"
    folder(
        tmp_path,
        profiles='id,skills,name\n1,"[""a"",  ""b""]","""n"""\n',
        jobs=f"id,title,posted_at\n{uuid},T,2024-01-01\n",
        bids=f"id,profile_id,job_id,amount,submitted_at\n7,1,{uuid},3.5,2024-01-02T00:00:00+02:00\n",
        bid_outcomes="id,bid_id,is_success,outcome_timestamp\no1,7,true,2024-01-05\n",
    )
    report = import_directory(app_db, tmp_path)
    assert report.ignored_columns == {"jobs.csv": ["title"]}
    assert rows(app_db, "SELECT submitted_at, amount::text FROM bids") == [(datetime(2024, 1, 1, 22), "3.50")]  # noqa: DTZ001
    assert all(done.unchanged == 1 for done in import_directory(app_db, tmp_path).counts.values())


def test_tables_that_break_the_contract_are_named(app_db: str, tmp_path: Path) -> None:
    execute(app_db, "CREATE TABLE bids (id text PRIMARY KEY)")
    with pytest.raises(ContractError, match=r"column bids\.profile_id is missing"):
        import_directory(app_db, folder(tmp_path))


def test_progress_is_told_by_table_up_to_its_last_row(app_db: str, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    import_directory(app_db, folder(tmp_path), progress=lambda *step: told.append(step))
    assert told[-2:] == [("bid_outcomes", 0, 2), ("bid_outcomes", 2, 2)]
    assert {table for table, done, total in told if done == total} == {"profiles", "jobs", "bids", "bid_outcomes"}


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1), min_size=1, max_size=6),
    st.data(),
)
def test_a_row_is_found_at_the_line_where_an_editor_shows_it(tmp_path_factory, texts, data) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("lines") / "jobs.csv"
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    path.write_text("id,title\n" + "".join(f"j{i},{text}\n" for i, text in enumerate(quoted)), encoding="utf-8", newline="")
    row = data.draw(st.integers(0, len(texts) - 1))
    expected = 2 + sum(1 + text.count("\n") for text in texts[:row])
    file = SourceFile("jobs", path)
    assert pa.concat_tables(file.batches(["title"]))["title"].to_pylist() == texts
    assert file.problem_at(row, "").line == expected


@pytest.mark.real_data
@pytest.mark.skipif(not GSOC.is_dir(), reason=f"the real data set is not at {GSOC}")
def test_the_real_data_set_is_imported_whole_and_importing_it_again_changes_nothing(app_db: str) -> None:
    report = import_directory(app_db, GSOC)
    assert {table: done.inserted for table, done in report.counts.items()} == {
        "profiles": 2_237,
        "jobs": 2_021,
        "bids": 17_209,
        "bid_outcomes": 16_303,
    }
    assert report.ignored_columns == {}
    assert all((done.inserted, done.updated) == (0, 0) for done in import_directory(app_db, GSOC).counts.values())
