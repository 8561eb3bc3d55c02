"""Files named after the application's tables: finding them, and reading them as unparsed Arrow columns.

CSV columns come as text (bytes that are known to be UTF-8), Parquet columns as whatever they are. What the columns must
hold is the business of `import_columns.py` and `importer.py`; here is only what makes a file readable at all, and the way
back from a row to the line where it stands.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

SUFFIXES = (".csv", ".csv.gz", ".parquet")
_BLOCK_BYTES = 64 << 20  # a row must fit in a block


@dataclass(frozen=True)
class Problem:
    """Why a file cannot be imported. `line` is the physical line where the row starts (Parquet: the row's number)."""

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        place = "row" if self.file.endswith(".parquet") else "line"
        return f"{self.file}: {self.reason}" if self.line is None else f"{self.file}, {place} {self.line}: {self.reason}"


class UnreadableFile(Exception):
    """The file is not what its name says; holds the problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = list(problems)


@dataclass(frozen=True)
class SourceFile:
    """One file of one table."""

    table: str
    path: Path

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet; else it is CSV."""
        return self.path.name.endswith(".parquet")

    def columns(self) -> list[str]:
        """The names of its columns. Raises `UnreadableFile`."""
        try:
            if self.is_parquet:
                return list(pq.read_schema(self.path).names)
            with _open_text(self.path) as file:
                return next(csv.reader(file), [])
        except (OSError, EOFError, pa.ArrowException, csv.Error) as error:
            raise UnreadableFile([self.problem(None, str(error))]) from error

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns, all rows. Raises `UnreadableFile` with a problem per row that has the wrong number of fields."""
        try:
            if self.is_parquet:
                return pq.read_table(self.path, columns=list(columns))
            return self._read_csv(columns)
        except (OSError, EOFError, pa.ArrowException) as error:
            raise UnreadableFile([self.problem(None, str(error))]) from error

    def lines(self, rows: Sequence[int]) -> list[int]:
        """The physical line where each of these rows (counted from 0) starts; for Parquet the row's number from 1."""
        if self.is_parquet:
            return [row + 1 for row in rows]
        starts: dict[int, int] = {}
        wanted = set(rows)
        with _open_text(self.path) as file:
            for row, line in enumerate(_row_starts(file), start=-1):  # the header is row -1
                if row in wanted:
                    starts[row] = line
                    if len(starts) == len(wanted):
                        break
        return [starts[row] for row in rows]

    def problem(self, line: int | None, reason: str) -> Problem:
        """A problem with this file."""
        return Problem(self.path.name, line, reason)

    def _read_csv(self, columns: Sequence[str]) -> pa.Table:
        if not self._has_rows():  # at which pyarrow stumbles, unless the header ends with a newline
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        torn: list[pacsv.InvalidRow] = []

        def skip(row: pacsv.InvalidRow) -> str:
            torn.append(row)
            return "skip"

        table = pacsv.read_csv(
            self.path,
            read_options=pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),  # or rows are not numbered
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict.fromkeys(columns, pa.binary()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        if torn:
            lines = self.lines([row.number - 2 for row in torn])
            raise UnreadableFile(
                [
                    self.problem(line, f"{row.actual_columns} fields, but the header has {row.expected_columns}")
                    for line, row in zip(lines, torn, strict=True)
                ]
            )
        return self._decoded(table)

    def _has_rows(self) -> bool:
        with _open_text(self.path) as file:
            return len(list(islice(_row_starts(file), 2))) == 2

    def _decoded(self, table: pa.Table) -> pa.Table:
        """Bytes as text; a problem for each row that is not UTF-8."""
        try:
            return table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
        except pa.ArrowInvalid:
            bad = {row for column in table.columns for row, value in enumerate(column.to_pylist()) if not _is_utf8(value)}
            lines = self.lines(sorted(bad))
            raise UnreadableFile([self.problem(line, "holds bytes that are not UTF-8") for line in lines]) from None


def find_files(directory: Path, tables: Sequence[str]) -> list[SourceFile]:
    """The files of these tables, in their order. Raises `UnreadableFile` where there is none, or two of one table."""
    found = [
        SourceFile(table, directory / f"{table}{suffix}")
        for table in tables
        for suffix in SUFFIXES
        if (directory / f"{table}{suffix}").is_file()
    ]
    names = [file.table for file in found]
    problems = [
        Problem(str(directory), None, f"holds more than one file of {table}: keep one of them")
        for table in tables
        if names.count(table) > 1
    ]
    if not found:
        expected = " or ".join(SUFFIXES)
        problems = [Problem(str(directory), None, f"holds none of {', '.join(tables)} as {expected}")]
    if problems:
        raise UnreadableFile(problems)
    return found


def rows_with_nul(column: pa.ChunkedArray) -> list[int]:
    """The rows whose text holds a NUL character, which PostgreSQL cannot store."""
    return np.flatnonzero(pc.fill_null(pc.match_substring(column, "\0"), False)).tolist()


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _open_text(path: Path) -> IO[str]:
    opener = gzip.open if path.name.endswith(".gz") else open
    return opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="")


def _row_starts(file: IO[str]) -> Iterator[int]:
    """The line on which each record starts, the header's first; blank lines are none, as pyarrow has it."""
    line = 1

    def counted() -> Iterator[str]:
        nonlocal line
        for text in file:
            yield text
            line += text.endswith("\n")

    csv.field_size_limit(sys.maxsize)
    start = line
    for record in csv.reader(counted()):
        if record:
            yield start
        start = line + 1
