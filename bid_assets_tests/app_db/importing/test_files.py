"""Files are read as they are written, or refused with file, line and column: no row vanishes without a word."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.app_db.importing.files import SourceFile, UnreadableFileError, find_files
from bid_assets.app_db.importing.importer import TABLES, ImportRefusedError, import_directory
from bid_assets.app_db.importing.parsing import parse_column
from bid_assets_tests.app_db.database import rows

HEADER = "id,profile_id,job_id,submitted_at,generated_bid_text\n"
MAY = datetime(2024, 5, 6, tzinfo=UTC)


def contents(path: Path, *columns: str) -> list[tuple[Any, ...]]:
    """The rows of a jobs file."""
    file = SourceFile("jobs", path)
    return [row for batch in file.batches(columns) for row in zip(*batch.to_pydict().values(), strict=True)]


def find_refusals(table: str, path: Path) -> list[str]:
    file = SourceFile(table, path)
    with pytest.raises(UnreadableFileError) as caught:
        list(file.batches(["id"]))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'b1,p1,j1,2024-05-06,"I said\nb2,p2,j1,2024-05-07,ok\nb3,p2,j1,2024-05-08,ok\n',
            "line 2: a quoted field is never closed",
        ),
        (
            'b1,p1,j1,2024-05-06,"I said\nb2,p2,j1,2024-05-07,ok\nb3,p2,j1,2024-05-08,"quote" me\n',
            "line 2: text after a closing quote in line 4",
        ),
        ('b1,p1,j1,2024-05-06,"I said"\nb2,p2,j1,2024-05-07,"second, text wh', "line 3: a quoted field is never closed"),
        ('b1,p1,j1,2024-05-06,"I \\"said\\" it"\n', "line 2: text after a closing quote in line 2"),
        ("b1,p1,j1,2024-05-06,a\n\nb2,p1,j1\n", "line 4: 3 fields, but the header has 5"),
    ],
    ids=["never closed", "closed by another", "cut", "backslashes", "torn row"],
)
def test_quotes_that_do_not_add_up_are_refused_with_their_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bids.csv"
    path.write_text(HEADER + text)
    (refusal,) = find_refusals("bids", path)
    assert refusal.startswith(f"bids.csv, {problem}")


@given(st.lists(st.tuples(st.text("ab\",;\n '", max_size=5), st.booleans()), min_size=1, max_size=5))
def test_a_csv_file_is_read_as_pythons_strict_reader_has_it_or_refused(
    tmp_path_factory: pytest.TempPathFactory, fields: list[tuple[str, bool]]
) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "jobs.csv"
    text = "id,title\n" + "".join(f'j{i},"{part}"\n' if quoted else f"j{i},{part}\n" for i, (part, quoted) in enumerate(fields))
    path.write_text(text, newline="")
    try:
        expected = [row for row in csv.reader(text.splitlines(keepends=True), strict=True) if row][1:]
    except csv.Error:
        expected = [[]]
    if any(len(row) != 2 for row in expected):
        assert find_refusals("jobs", path)
    else:
        read = contents(path, "id", "title")
        assert [[one or "", title or ""] for one, title in read] == expected


def test_an_empty_field_is_nothing_and_an_empty_text_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text('id,title\nj1,\nj2,""\n')
    assert contents(tmp_path / "jobs.csv", "id", "title") == [("j1", None), ("j2", "")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_separators_and_encodings_are_recognized(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = f'id{delimiter}title\r\nj1{delimiter}"Größe,\r\n;"\r\n'
    (tmp_path / "jobs.csv").write_bytes(text.encode(encoding))
    assert contents(tmp_path / "jobs.csv", "id", "title") == [("j1", "Größe,\r\n;")]


@pytest.mark.parametrize("start", ["sep=;\r\n", "SEP=;\n", '"sep=;"\n', "sep=;\n\n"])
def test_the_line_by_which_excel_names_the_separator_is_no_header(tmp_path: Path, start: str) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text(f"{start}id;title,x\nj1;A\n", newline="")
    assert contents(path, "title,x") == [("A",)]
    path.write_text(f"{start}id;title\nj1;A\nj2\n", newline="")
    assert find_refusals("jobs", path) == [f"jobs.csv, line {start.count(chr(10)) + 3}: 1 fields, but the header has 2"]


def test_the_names_of_columns_may_have_capitals_and_spaces_around_them(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("ID, Title ,CLIENT_ID\nj1,A,c\n")
    pq.write_table(pa.table({"ID": ["j1"], "Title": ["A"]}), tmp_path / "jobs.parquet")
    assert contents(tmp_path / "jobs.csv", "id", "title", "client_id") == [("j1", "A", "c")]
    assert contents(tmp_path / "jobs.parquet", "title", "id") == [("A", "j1")]


def test_a_header_that_names_no_known_column_is_shown(app_db: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("Job Id:Title\nj1:A\n")
    with pytest.raises(ImportRefusedError, match=r"jobs\.csv, line 1: column id is missing; there are: job id:title"):
        import_directory(app_db, tmp_path)


def zstd(text: bytes) -> bytes:
    return bytes(pa.compress(text, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("jobs.csv.gz", gzip.compress),
        ("jobs.csv.bz2", bz2.compress),
        ("jobs.csv.zst", zstd),
        ("JOBS.CSV", bytes),
        ("Jobs.Csv.GZ", gzip.compress),
        ("jobs.tsv", lambda text: text.replace(b",", b"\t")),
        ("jobs.tsv.gz", lambda text: gzip.compress(text.replace(b",", b"\t"))),
    ],
)
def test_compressed_and_otherwise_named_files_are_read(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / name).write_bytes(compress(b"id,title\nj1,A\n"))
    (file,) = find_files(tmp_path, ["jobs"]).files
    assert contents(file.path, "id", "title") == [("j1", "A")]


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_parquet_of_every_compression_is_read(tmp_path: Path, codec: str) -> None:
    pq.write_table(pa.table({"id": ["j1"]}), tmp_path / f"jobs.{codec}.parquet", compression=codec)
    pq.write_table(pa.table({"id": ["j1"]}), tmp_path / "jobs.parquet", compression=codec)
    assert contents(tmp_path / "jobs.parquet", "id") == [("j1",)]


@pytest.mark.parametrize("cut", [gzip.compress, bz2.compress, zstd])
def test_a_compressed_file_that_is_cut_is_refused(tmp_path: Path, cut: Callable[[bytes], bytes]) -> None:
    name = {gzip.compress: "jobs.csv.gz", bz2.compress: "jobs.csv.bz2", zstd: "jobs.csv.zst"}[cut]
    whole = cut(b"id,title\n" + b"".join(b"j%d,%d\n" % (i, i * i) for i in range(1000)))
    (tmp_path / name).write_bytes(whole[:-20])
    assert find_refusals("jobs", tmp_path / name)[0].startswith(f"{name}: ")


def test_a_folder_of_parts_is_one_file(app_db: str, tmp_path: Path) -> None:
    (tmp_path / "profiles.csv").write_text("id\np1\n")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "part-0.csv").write_text("id\nj1\n")
    (tmp_path / "jobs" / "part-1.csv.gz").write_bytes(gzip.compress(b"ID;title\nj2;A\n"))
    bids = pa.table(
        {"id": [1, 2, 3], "profile_id": ["p1"] * 3, "job_id": ["j1", "j2", "01"], "submitted_at": ["2024-05-06"] * 3}
    )
    ds.write_dataset(bids, tmp_path / "bids.parquet", format="parquet", partitioning=["job_id"], partitioning_flavor="hive")
    (tmp_path / "bids.parquet" / "_SUCCESS").touch()
    (tmp_path / "bids.parquet" / ".part.crc").touch()
    import_directory(app_db, tmp_path)
    assert rows(app_db, "SELECT id, title FROM jobs ORDER BY id") == [("j1", None), ("j2", "A")]
    assert rows(app_db, "SELECT id, job_id FROM bids ORDER BY id") == [("1", "j1"), ("2", "j2"), ("3", "01")]


def test_a_problem_in_a_folder_names_the_part_and_its_row(app_db: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.parquet").mkdir()
    pq.write_table(pa.table({"id": ["j1", "j2"]}), tmp_path / "jobs.parquet" / "a.parquet")
    pq.write_table(pa.table({"id": ["j3", "j1"]}), tmp_path / "jobs.parquet" / "b.parquet")
    with pytest.raises(ImportRefusedError, match=r"jobs\.parquet/b\.parquet, row 2: duplicate id 'j1'"):
        import_directory(app_db, tmp_path)


@pytest.mark.parametrize("name", ["bids.jsonl", "bids.parquet.gz", "bids.xlsx", "bids_2024.csv", "Bids.json", "bids"])
def test_a_file_named_like_a_table_is_never_passed_over_in_silence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("id\nb1\n")
    (tmp_path / "jobs.csv").write_text("id\nj1\n")
    with pytest.raises(UnreadableFileError, match=f"{name}: is not read: the rows of bids are read from bids with one of .csv"):
        find_files(tmp_path, list(TABLES))
    (tmp_path / "bids.csv").write_text("id\nb1\n")
    selection = find_files(tmp_path, list(TABLES))
    assert ([file.path.name for file in selection.files], selection.unrecognized_files) == (["jobs.csv", "bids.csv"], [name])


@pytest.mark.parametrize("content", [(), ("notes.txt",), ("part-0", "part-1.csv")])
def test_a_folder_with_anything_but_parts_is_refused(tmp_path: Path, content: tuple[str, ...]) -> None:
    (tmp_path / "jobs.parquet").mkdir()
    for name in content:
        (tmp_path / "jobs.parquet" / name).write_text("id\nj1\n")
    (refusal,) = find_refusals("jobs", tmp_path / "jobs.parquet")
    assert refusal.startswith("jobs.parquet: is a folder with" if content else "jobs.parquet: is a folder without parts")


UTC_MAY = pa.timestamp("us", tz="UTC")
NAME = UUID("6f1c2a9e-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    ("target", "values", "expected"),
    [
        ("text", pa.array([NAME.bytes], pa.uuid()), str(NAME)),
        ("text", pa.array([7.0, None]), "7"),
        ("text", pa.array([2.0**53 - 1]), "9007199254740991"),
        ("text", pa.array([2.0**53]), None),
        ("text", pa.array([7.5], pa.float32()), "7.5"),
        ("text", pa.array([7.0], pa.float16()), "7"),
        ("text", pa.array([Decimal("7")], pa.decimal256(50, 0)), "7"),
        ("text", pa.array([True]), "true"),
        ("text", pa.array([b"j1"], pa.binary(2)), "j1"),
        ("text", pa.array([b"j1"], pa.large_binary()), "j1"),
        ("text", pa.array([b"j1"], pa.binary_view()), "j1"),
        ("text", pa.array(["j1"], pa.large_string()), "j1"),
        ("text", pa.array(["j1"], pa.string_view()), "j1"),
        ("text", pa.array(["j1"], pa.large_string()).dictionary_encode(), "j1"),
        ("text", pa.array([7]).dictionary_encode(), "7"),
        ("text", pa.array([b"\xff"], pa.binary()), None),
        ("text", pa.array([timedelta(1)]), None),
        ("text", pa.array([{"budget": Decimal("600.50"), "n": None}]), '{"budget":600.50,"n":null}'),
        (
            "text",
            pa.array([[("budget", "600"), ("weeks", "2")]], pa.map_(pa.string(), pa.string())),
            '{"budget":"600","weeks":"2"}',
        ),
        (
            "text",
            pa.array([{"at": MAY, "day": date(2024, 5, 6), "x": float("nan")}]),
            '{"at":"2024-05-06T00:00:00+00:00","day":"2024-05-06","x":null}',
        ),
        ("text", pa.array([{"note": b"x"}]), None),
        ("text", pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int8())), None),
        ("text", pa.array([["a", "b"]], pa.large_list(pa.large_string())), '["a","b"]'),
        ("text", pa.array([["a", "b"]], pa.list_(pa.string(), 2)), '["a","b"]'),
        ("text", pa.array([["a", "b"]], pa.list_view(pa.string())), '["a","b"]'),
        ("number", pa.array([2**60 + 1]), float(2**60)),
        ("number", pa.array([Decimal("10.25")], pa.decimal128(38, 2)), 10.25),
        ("number", pa.array([" 10.5 ", " "], pa.large_string()), 10.5),
        ("number", pa.array(["1_500"]), None),
        ("number", pa.array(["６００"]), None),
        ("number", pa.array([True]), None),
        ("number", pa.array([b"10.5"]), 10.5),
        ("number", pa.array([timedelta(1)]), None),
        ("time", pa.array([date(2024, 5, 6)], pa.date32()), MAY),
        ("time", pa.array([date(2024, 5, 6)], pa.date64()), MAY),
        ("time", pa.array([MAY], pa.timestamp("s", tz="Europe/Berlin")), MAY),
        ("time", pa.array([MAY], pa.timestamp("ns", tz="UTC")), MAY),
        ("time", pa.array([10**15], pa.timestamp("ms")), None),
        ("time", pa.array([2**60], pa.timestamp("ms")), None),
        ("time", pa.array([2**30], pa.date32()), None),
        ("time", pa.array(["2024-05-06T00:00:00.000000999Z"]), MAY),
        ("time", pa.array([20240506]), MAY),
        ("time", pa.array([1715000000]), None),
        ("time", pa.array([timedelta(1)]), None),
        ("flag", pa.array([1, 0]), True),
        ("flag", pa.array([1.0]), True),
        ("flag", pa.array([" TRUE "], pa.large_string()), True),
        ("flag", pa.array([2]), None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_every_type_of_parquet_arrives_as_the_right_value_or_is_not_read(
    tmp_path: Path, target: str, values: pa.Array, expected: object
) -> None:
    pq.write_table(pa.table({"id": values}), tmp_path / "jobs.parquet")
    (batch,) = SourceFile("jobs", tmp_path / "jobs.parquet").batches(["id"])
    kind = {"text": pa.string(), "number": pa.float64(), "time": UTC_MAY, "flag": pa.bool_()}[target]
    assert parse_column(batch["id"], kind)[0].as_py() == expected


def test_times_that_nanoseconds_cannot_hold_are_read(tmp_path: Path) -> None:
    far = datetime(2300, 1, 1, tzinfo=UTC)
    times = pa.array([far, MAY], pa.timestamp("us"))
    pq.write_table(pa.table({"posted_at": times}), tmp_path / "jobs.parquet", use_deprecated_int96_timestamps=True)
    (batch,) = SourceFile("jobs", tmp_path / "jobs.parquet").batches(["posted_at"])
    assert parse_column(batch["posted_at"], UTC_MAY).to_pylist() == [far, MAY]
    text = pa.chunked_array([["2300-01-01", "2024-05-06T00:00:00.123456789Z"]])
    assert parse_column(text, UTC_MAY).to_pylist() == [far, MAY + timedelta(microseconds=123456)]


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("bid_settings_snapshot", pa.array([None, {"note": b"x"}]), "row 2: bid_settings_snapshot {'note': b'x'} is not JSON"),
        ("prompt_template_id", pa.array([b"a", b"\xff"]), r"row 2: prompt_template_id b'\\xff' is not text in UTF-8"),
        ("amount", pa.array(["1", "1_5"]).dictionary_encode(), "row 2: amount '1_5' is not a number"),
        ("amount", pa.array([None, timedelta(1)]), r"row 2: amount datetime.timedelta\(days=1\) is not a number"),
        ("submitted_at", pa.array([0, 2**60], pa.timestamp("ms")), "row 2: submitted_at .* is not a time"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_with_file_row_and_column(
    app_db: str, tmp_path: Path, column: str, values: pa.Array, problem: str
) -> None:
    bids = {"id": [1, 2], "profile_id": ["p", "p"], "job_id": ["j", "j"], "submitted_at": ["2024-05-06"] * 2, column: values}
    pq.write_table(pa.table(bids), tmp_path / "bids.parquet")
    (tmp_path / "profiles.csv").write_text("id\np\n")
    (tmp_path / "jobs.csv").write_text("id\nj\n")
    with pytest.raises(ImportRefusedError, match=f"bids.parquet, {problem}"):
        import_directory(app_db, tmp_path)


def test_files_that_were_not_read_are_in_the_summary(app_db: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("id\nj1\n")
    (tmp_path / "jobs_old.csv").write_text("id\nj1\n")
    assert "jobs_old.csv: not read" in import_directory(app_db, tmp_path).summary()
