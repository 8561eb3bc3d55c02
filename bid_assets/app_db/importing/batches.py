"""Reading one CSV or Parquet file as batches of unparsed Arrow columns.

CSV columns come as text, Parquet columns with their own types. The structure of a CSV file (quotes, fields, lines) is checked
by Python's `csv` in strict mode, which refuses what Arrow's faster reader lets pass; the values are then read by Arrow. Which
files there are is in `files.py`, what the columns must hold in `parsing.py` and `importer.py`.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, TextIO

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_BLOCK_BYTES = 64 << 20  # a row must fit in a block
_BATCH_ROWS = 65_536
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE | re.DOTALL)  # Excel's first line
_READ_ERRORS = (OSError, EOFError, UnicodeError, pa.ArrowException, csv.Error)


@dataclass(frozen=True)
class ImportProblem:
    """Why a file cannot be imported. `line` is the physical line where the row starts (Parquet: the row's number)."""

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        place = "row" if self.file.lower().endswith(".parquet") else "line"
        return f"{self.file}: {self.reason}" if self.line is None else f"{self.file}, {place} {self.line}: {self.reason}"


class UnreadableFileError(Exception):
    """The file is not what its name says; holds the problems."""

    def __init__(self, problems: Sequence[ImportProblem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = list(problems)


class FilePart(Protocol):
    """One file of rows. Every method raises `UnreadableFileError`."""

    @property
    def name(self) -> str:
        """How a message calls the file."""

    @property
    def columns(self) -> list[str]:
        """The names of its columns, without the spaces around them and in lower case."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns, which it must have, some rows at a time."""

    def line(self, row: int) -> int:
        """The physical line where a row (counted from 0) starts; for Parquet the row's number from 1."""


@dataclass(frozen=True)
class ParquetPart:
    """A Parquet file. Its folders may say more about its rows (`year=2024`): those columns are text."""

    path: Path
    name: str
    partition_values: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def _stored(self) -> list[str]:
        with _reading(self.name):
            return list(pq.read_schema(self.path).names)

    @property
    def columns(self) -> list[str]:
        """Those of the file, then those of its folders."""
        stored = [_normal(name) for name in self._stored]
        return stored + [name for name in self.partition_values if name not in stored]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The columns with the types that the file gives them; dates that nanoseconds cannot hold are read as well."""
        names = {_normal(stored): stored for stored in self._stored}
        with _reading(self.name), pq.ParquetFile(self.path, coerce_int96_timestamp_unit="us") as file:
            stored = [names[name] for name in columns if name in names]
            for batch in file.iter_batches(_BATCH_ROWS, columns=stored):
                yield pa.table(
                    {
                        name: batch[names[name]] if name in names else self._partition_column(name, batch.num_rows)
                        for name in columns
                    }
                )

    def line(self, row: int) -> int:
        """The row's number from 1."""
        return row + 1

    def _partition_column(self, name: str, rows: int) -> pa.Array:
        return pa.repeat(pa.scalar(self.partition_values[name], pa.string()), rows)


@dataclass(frozen=True)
class _Layout:
    """The dialect of a CSV file."""

    encoding: str
    delimiter: str
    header: list[str]
    line: int
    """Of the header."""


@dataclass(frozen=True)
class DelimitedPart:
    """A CSV file with any of the usual separators, encodings and compressions; `known` are the columns it may have."""

    path: Path
    name: str
    known: frozenset[str]

    @property
    def columns(self) -> list[str]:
        """Those of the header."""
        return self._layout.header

    @cached_property
    def _layout(self) -> _Layout:
        """The separator is the one that `sep=` names, or else the one by which the header has most of the known columns."""
        with _reading(self.name):
            csv.field_size_limit(_BLOCK_BYTES)
            encoding = self._encoding()
            with self._open_text(encoding) as file:
                first = _SEPARATOR_LINE.fullmatch(file.readline(16))
            usual = "\t,;|" if ".tsv" in self.path.name.lower() else ",;\t|"
            layouts = [self._layout_with(delimiter, encoding, skip=bool(first)) for delimiter in (first[1] if first else usual)]
            return max(layouts, key=lambda layout: len(self.known.intersection(layout.header)))

    def _encoding(self) -> str:
        with self._open_bytes() as file:
            head = file.read(4)
        for mark, encoding in _ENCODINGS:
            if head.startswith(mark):
                return encoding
        if b"\0" in head[:2]:  # no name of a column has a NUL, but in UTF-16 each of its ASCII letters has one beside it
            return "utf-16-be" if head[0] == 0 else "utf-16-le"
        return "utf-8-sig"

    def _layout_with(self, delimiter: str, encoding: str, *, skip: bool) -> _Layout:
        """The header is the first record that is not blank; with another delimiter its quotes need not add up."""
        with self._open_text(encoding) as file:
            before = 1 if skip and file.readline() else 0
            records = csv.reader(file, delimiter=delimiter)
            start = before + 1
            for record in records:
                if record:
                    return _Layout(encoding, delimiter, [_normal(name) for name in record], start)
                start = before + records.line_num + 1
        return _Layout(encoding, delimiter, [], 1)

    @cached_property
    def _lines(self) -> array[int]:
        """The line where each row starts. Refuses a file whose quotes or fields do not add up."""
        layout, starts, problems = self._layout, array("q"), []
        with _reading(self.name), self._open_text(layout.encoding) as file:
            for _ in range(layout.line - 1):
                file.readline()
            records = csv.reader(file, delimiter=layout.delimiter, strict=True)
            start = before = layout.line
            try:
                for record in records:
                    if record:  # blank lines are none, as Arrow has it
                        starts.append(start)
                        if len(record) != len(layout.header):
                            reason = f"{len(record)} fields, but the header has {len(layout.header)}"
                            problems.append(ImportProblem(self.name, start, reason))
                    start = before + records.line_num
            except csv.Error as error:
                problems.append(
                    ImportProblem(
                        self.name, start, _syntax_error_message(error, before + records.line_num - 1, layout.delimiter)
                    )
                )
        if problems:
            raise UnreadableFileError(problems)
        return starts[1:]

    def line(self, row: int) -> int:
        """The physical line where the row starts."""
        return self._lines[row]

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The columns as text; empty without quotes is null. The whole file has been checked before the first batch."""
        rows = 0
        with _reading(self.name):
            for raw in self._raw_batches(columns) if len(self._lines) else ():
                yield self._decoded(raw, rows)
                rows += raw.num_rows
        if rows != len(self._lines):
            raise UnreadableFileError(
                [ImportProblem(self.name, None, f"holds {len(self._lines):,} rows, but {rows:,} could be read")]
            )

    def _raw_batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        layout = self._layout
        encoding = "utf8" if layout.encoding == "utf-8-sig" else layout.encoding
        with (
            self._open_bytes() as file,
            pacsv.open_csv(
                file,
                read_options=pacsv.ReadOptions(
                    use_threads=False,
                    block_size=_BLOCK_BYTES,
                    column_names=layout.header,
                    skip_rows=layout.line - 1,
                    skip_rows_after_names=1,
                    encoding=encoding,
                ),
                parse_options=pacsv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    include_columns=list(columns),
                    column_types=dict.fromkeys(columns, pa.binary()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            ) as reader,
        ):
            for batch in reader:
                yield pa.Table.from_batches([batch])

    def _decoded(self, raw: pa.Table, before: int) -> pa.Table:
        """Bytes as text; a problem for each row that is not UTF-8."""
        try:
            return raw.cast(pa.schema([(name, pa.string()) for name in raw.column_names]))
        except pa.ArrowInvalid:
            rows = {row for column in raw.columns for row, value in enumerate(column.to_pylist()) if not _is_utf8(value)}
            reason = "holds bytes that are not UTF-8 (save the file as UTF-8)"
            raise UnreadableFileError(
                [ImportProblem(self.name, self.line(before + row), reason) for row in sorted(rows)]
            ) from None

    def _open_bytes(self) -> pa.NativeFile:
        return pa.input_stream(str(self.path), compression=_COMPRESSIONS.get(self.path.suffix.lower()))

    def _open_text(self, encoding: str) -> TextIO:
        errors = "replace" if encoding == "utf-8-sig" else "strict"  # `_decoded` finds the row
        return io.TextIOWrapper(self._open_bytes(), encoding=encoding, errors=errors, newline="")


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Errors in this block become an `UnreadableFileError` of this file."""
    try:
        yield
    except _READ_ERRORS as error:
        raise UnreadableFileError([ImportProblem(name, None, str(error))]) from error


def _syntax_error_message(error: csv.Error, line: int, delimiter: str) -> str:
    message = str(error)
    if "unexpected end" in message or "field limit" in message:
        return "a quoted field is never closed"
    if "expected after" in message:
        return f"text after a closing quote in line {line}: a quote inside a quoted field is written twice"
    return f"{message} (read with {delimiter!r} between the fields)"


def _normal(name: str) -> str:
    return name.strip().lower()


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False
