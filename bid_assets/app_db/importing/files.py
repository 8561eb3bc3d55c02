"""Discovery of the files to import: which files of a folder hold the rows of which table, and which are ignored.

The rows of a table come from one file, or from one folder of parts, that is named after it. Reading the files is in
`batches.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db import contract
from bid_assets.app_db.importing.batches import DelimitedPart, FilePart, ImportProblem, ParquetPart, UnreadableFileError

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".csv.bz2", ".csv.zst", ".parquet")
"""What is read, as an error names it."""

_DELIMITED = re.compile(r".*\.(csv|tsv)(\.(gz|bz2|zst))?", re.IGNORECASE)
_PARQUET = re.compile(r".*\.parquet", re.IGNORECASE)
_END = re.compile(r"((\.(csv|tsv))?(\.(gz|bz2|zst))?|(\.(snappy|gz|gzip|zstd|brotli|lz4))?\.parquet)", re.IGNORECASE)
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class SourceFile:
    """The file, or the folder of parts, that holds the rows of one table. Its methods raise `UnreadableFileError`."""

    table: str
    path: Path

    @cached_property
    def parts(self) -> list[FilePart]:
        """The files that hold its rows, in order of their names."""
        if not self.path.is_dir():
            return [self._part(self.path)]
        paths = sorted(path for path in self.path.rglob("*") if path.is_file() and not self._is_hidden(path))
        unreadable = [path for path in paths if not (_DELIMITED.fullmatch(path.name) or _PARQUET.fullmatch(path.name))]
        if unreadable or not paths:
            names = ", ".join(str(path.relative_to(self.path)) for path in unreadable[:3])
            reason = f"is a folder with files that are not read: {names}" if unreadable else "is a folder without parts"
            raise UnreadableFileError([self.problem(f"{reason} (parts are {', '.join(SUFFIXES)})")])
        return [self._part(path) for path in paths]

    @property
    def columns(self) -> list[str]:
        """The names of its columns in lower case; those of a part that occur twice, twice."""
        names: list[str] = []
        for part in self.parts:
            names += [name for name in part.columns if name not in names or part.columns.count(name) > names.count(name)]
        return names

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """These columns, some rows at a time; null where a part does not have one. All parts may have types of their own."""
        for part in self.parts:
            present = [name for name in columns if name in part.columns]
            for batch in part.batches(present):
                self._rows[part.name] = self._rows.get(part.name, 0) + batch.num_rows
                absent = {name: pa.nulls(batch.num_rows) for name in columns if name not in present}
                yield pa.table({name: absent[name] if name in absent else batch[name] for name in columns})

    @cached_property
    def _rows(self) -> dict[str, int]:
        """How many rows were read of each part."""
        return {}

    def problem_at(self, row: int, reason: str) -> ImportProblem:
        """A problem with one row, counted from 0 over all parts, once the rows have been read."""
        ends = list(accumulate(self._rows.get(part.name, 0) for part in self.parts))
        index = int(np.searchsorted(ends, row, side="right"))
        part = self.parts[index]
        return ImportProblem(part.name, part.line(row - (ends[index - 1] if index else 0)), reason)

    def problem(self, reason: str) -> ImportProblem:
        """A problem with the file as a whole."""
        return ImportProblem(self.path.name, None, reason)

    def header_problem(self, reason: str) -> ImportProblem:
        """A problem with the names of the columns."""
        return ImportProblem(self.path.name, None if self._is_parquet else 1, reason)

    @property
    def _is_parquet(self) -> bool:
        return self.path.is_dir() or _PARQUET.fullmatch(self.path.name) is not None

    def _part(self, path: Path) -> FilePart:
        name = str(path.relative_to(self.path.parent))
        if _PARQUET.fullmatch(path.name):
            return ParquetPart(path, name, _hive_partition_values(path.relative_to(self.path.parent).parts[1:-1]))
        return DelimitedPart(path, name, frozenset(contract.STREAMS[f"raw_{self.table}"].names))

    def _is_hidden(self, path: Path) -> bool:
        """Whether Hadoop and its kin pass it over: `_SUCCESS`, `.part-0.crc`."""
        return any(name[0] in "._" for name in path.relative_to(self.path).parts)


@dataclass(frozen=True)
class Selection:
    """The files to import, and the names of those that look like a table's but are not read."""

    files: list[SourceFile]
    unrecognized_files: list[str]


def find_files(directory: Path, tables: Sequence[str]) -> Selection:
    """The files of these tables, in their order.

    Raises `UnreadableFileError` where there is none, where two could be read of one table, and where there are only such that
    cannot.
    """
    files, problems, unrecognized_files = [], [], []
    entries = sorted(directory.iterdir()) if directory.is_dir() else []
    for table in tables:
        similar = [path for path in entries if path.name.lower().startswith(table)]
        readable = [path for path in similar if _is_readable(path, table)]
        others = [path.name for path in similar if path not in readable]
        if len(readable) > 1:
            names = ", ".join(path.name for path in readable)
            problems.append(
                ImportProblem(str(directory), None, f"holds more than one file of {table} ({names}): keep one of them")
            )
        elif readable:
            files.append(SourceFile(table, readable[0]))
            unrecognized_files += others
        else:
            expected = f"the rows of {table} are read from {table} with one of {', '.join(SUFFIXES)}, or a folder of such files"
            problems += [ImportProblem(name, None, f"is not read: {expected}") for name in others]
    if not files and not problems:
        problems = [ImportProblem(str(directory), None, f"holds none of {', '.join(tables)} as {' or '.join(SUFFIXES)}")]
    if problems:
        raise UnreadableFileError(problems)
    return Selection(files, unrecognized_files)


def rows_with_nul(column: pa.ChunkedArray) -> list[int]:
    """The rows whose text holds a NUL character, which PostgreSQL cannot store."""
    return np.flatnonzero(pc.fill_null(pc.match_substring(column, "\0"), False)).tolist()


def _is_readable(path: Path, table: str) -> bool:
    """A file with one of the endings, or a folder with or without one."""
    end = path.name[len(table) :]
    return _END.fullmatch(end) is not None and (path.is_dir() or bool(_DELIMITED.fullmatch(end) or _PARQUET.fullmatch(end)))


def _hive_partition_values(folders: Sequence[str]) -> dict[str, str | None]:
    """The values in Hive-partitioned folder names such as `year=2024`."""
    pairs = (folder.split("=", 1) for folder in folders if "=" in folder)
    return {name.strip().lower(): None if value == _NO_VALUE else unquote(value) for name, value in pairs}
