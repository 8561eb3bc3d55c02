"""`import_directory`: an atomic import of files named after the tables into the application's database.

First everything is read, parsed and checked, and every problem is collected with its file and line; then, in one transaction,
rows are staged and checked by the database itself, and only then written. How files are read is in `files.py`, how values are
parsed in `parsing.py`, how rows are staged in `staging.py` and written in `upsert.py`. Rows that can be stored but make no
sense (an outcome before its bid) are imported: the reader rejects such rows wherever they come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bid_assets.app_db import contract
from bid_assets.app_db.connections import REQUIRED_PARAMETERS, SILENCE_SECONDS, connect, set_config, translate_errors
from bid_assets.app_db.contract import ContractError
from bid_assets.app_db.importing.batches import ImportProblem, UnreadableFileError
from bid_assets.app_db.importing.files import SourceFile, find_files, rows_with_nul
from bid_assets.app_db.importing.parsing import blank_rows, format_value, parse_column, type_description, unreadable_rows
from bid_assets.app_db.importing.staging import StagingTable
from bid_assets.app_db.importing.upsert import UpsertCounts, upsert
from bid_assets.app_db.introspection import Columns, columns_of, contract_columns
from bid_assets.common.progress import ProgressCallback

_SHOWN_PROBLEMS = 10
_REFERENCES = {"bids": ("profile_id", "profiles", "profile"), "bid_outcomes": ("bid_id", "bids", "bid")}


def _columns(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Column -> the type that it is imported as; lists are kept as JSON text."""
    return {
        field.name: contract.TEXT if field.type == contract.TEXTS else field.type for field in schema if field.name != "window"
    }


TABLES = {
    "profiles": _columns(contract.RAW_PROFILES),
    "jobs": _columns(contract.RAW_JOBS),
    "bids": _columns(contract.RAW_BIDS),
    "bid_outcomes": _columns(contract.RAW_BID_OUTCOMES),
}


class ImportRefusedError(Exception):
    """Nothing was written. `problems` holds the first ones, `total` their number."""

    def __init__(self, problems: Sequence[ImportProblem], total: int) -> None:
        self.problems = list(problems)
        self.total = total
        more = f"\n... and {total - len(problems):,} more" if total > len(problems) else ""
        count = "1 problem" if total == 1 else f"{total:,} problems"
        super().__init__(f"{count}, nothing was imported:\n" + "\n".join(map(str, problems)) + more)


@dataclass(frozen=True)
class ImportReport:
    """The result of an import: row counts by table, unknown columns by file, and files that look like a table's but are
    none."""

    counts: dict[str, UpsertCounts]
    ignored_columns: dict[str, list[str]]
    unrecognized_files: list[str]

    def summary(self) -> str:
        """A line per table, per file with unknown columns and per file that was not read."""
        lines = [
            f"{table}: {count.inserted:,} inserted, {count.updated:,} updated, {count.unchanged:,} unchanged"
            for table, count in self.counts.items()
        ]
        lines += [f"{file}: ignored {', '.join(names)}" for file, names in self.ignored_columns.items()]
        lines += [f"{name}: not read" for name in self.unrecognized_files]
        return "\n".join(lines)


@dataclass
class _ParsedFile:
    """A file's parsed columns, the names of those that are none of ours, and what is wrong with it: (row, reason)."""

    file: SourceFile
    rows: pa.Table
    ignored: list[str]
    faults: list[tuple[int, str]]


def import_directory(
    url: str, directory: Path, progress: ProgressCallback | None = None, *, silence: float = SILENCE_SECONDS
) -> ImportReport:
    """Import `profiles`, `jobs`, `bids` and `bid_outcomes` (CSV or Parquet), as many as are in `directory`.

    Rows are new, changed or unchanged by their id; only the columns that a file has are compared and written. Tables that
    do not exist are created. Raises `ImportRefusedError` for a bad file, before anything is written.
    """
    try:
        selection = find_files(directory, list(TABLES))
    except UnreadableFileError as error:
        raise ImportRefusedError(error.problems, len(error.problems)) from None
    parsed_files = _load_all(selection.files)
    _refuse_if_faulty(parsed_files)
    with closing(connect(url, silence=silence)) as connection, translate_errors(url):
        connection.autocommit = False
        with connection, connection.cursor() as cursor:  # one transaction
            cursor.execute(set_config({**connection.options, **REQUIRED_PARAMETERS}, local=True))
            counts, ignored = _write(cursor, parsed_files, progress or (lambda *_: None))
            names = [_qualified_name(cursor, table) for table in counts]
        connection.autocommit = True
        with connection.cursor() as cursor:
            for name in names:  # so that the next reading is planned on what is there now
                cursor.execute(f"VACUUM ANALYZE {name}")
    return ImportReport(counts, ignored, selection.unrecognized_files)


def _load_all(files: Sequence[SourceFile]) -> list[_ParsedFile]:
    """Every file, parsed; files that cannot be read at all are refused together."""
    parsed_files, problems = [], []
    for file in files:
        try:
            parsed_files.append(_load(file))
        except UnreadableFileError as error:
            problems += error.problems
    if problems:
        raise ImportRefusedError(problems[:_SHOWN_PROBLEMS], len(problems))
    return parsed_files


def _load(file: SourceFile) -> _ParsedFile:
    known = TABLES[file.table]
    present = file.columns
    twice = [name for name in known if present.count(name) > 1]
    header = f"; there are: {', '.join(present)}"[:200] if present else ""
    missing = [name for name in contract.REQUIRED_COLUMNS[file.table] if name not in present]
    flaws = [f"column {name} occurs twice" for name in twice] + [f"column {name} is missing{header}" for name in missing]
    if flaws:
        raise UnreadableFileError([file.header_problem(flaw) for flaw in flaws])
    names = [name for name in known if name in present]
    batches, faults, start = [pa.schema([(name, known[name]) for name in names]).empty_table()], [], 0
    for raw in file.batches(names):
        values = pa.table({name: parse_column(raw[name], known[name]) for name in names})
        batch_faults = (fault for name in names for fault in _faults(file.table, name, raw[name], values[name]))
        faults += [(start + row, reason) for row, reason in batch_faults]
        batches.append(values)
        start += values.num_rows
    rows = pa.concat_tables(batches)
    faults += [(row, f"duplicate id {format_value(rows['id'], row)}") for row in _duplicate_rows(rows["id"])]
    return _ParsedFile(file, rows, [name for name in present if name not in known], faults)


def _faults(table: str, name: str, raw: pa.ChunkedArray, values: pa.ChunkedArray) -> Iterator[tuple[int, str]]:
    """What is wrong with one column: values that cannot be read, that may not be empty, that cannot be stored."""
    bad = unreadable_rows(raw, values)
    yield from ((row, f"{name} {format_value(raw, row)} is not {type_description(raw.type, values.type)}") for row in bad)
    is_text = values.type == contract.TEXT
    if name in contract.REQUIRED_COLUMNS[table]:
        empty = blank_rows(values) if is_text else np.flatnonzero(values.is_null()).tolist()
        yield from ((row, f"{name} is empty") for row in sorted(set(empty) - set(bad)))
    if is_text:
        yield from ((row, f"{name} holds a NUL character") for row in rows_with_nul(values))


def _duplicate_rows(ids: pa.ChunkedArray) -> list[int]:
    """The rows whose id has occurred in a row before."""
    codes = ids.combine_chunks().dictionary_encode().indices.drop_null().to_numpy()
    _, first = np.unique(codes, return_index=True)
    rows = np.flatnonzero(ids.is_valid())
    return np.delete(rows, first).tolist()


def _refuse_if_faulty(parsed_files: Sequence[_ParsedFile]) -> None:
    """Raises `ImportRefusedError` with the first faults of each file, in the order of its lines."""
    total = sum(len(one.faults) for one in parsed_files)
    if not total:
        return
    problems: list[ImportProblem] = []
    for one in parsed_files:
        first = sorted(one.faults, key=itemgetter(0))[: _SHOWN_PROBLEMS - len(problems)]
        problems += [one.file.problem_at(row, reason) for row, reason in first]
    raise ImportRefusedError(problems, total)


def _write(
    cursor: Any, parsed_files: Sequence[_ParsedFile], progress: ProgressCallback
) -> tuple[dict[str, UpsertCounts], dict[str, list[str]]]:
    """Stage, check and upsert all files: row counts by table, and the columns that were not written, by file."""
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    columns = _create_missing_tables(cursor)
    stages, ignored = {}, {}
    for one in parsed_files:
        types = columns[one.file.table]
        stored = [name for name in one.rows.column_names if name in types and not types[name].is_generated]
        if others := one.ignored + [name for name in one.rows.column_names if name not in stored]:
            ignored[one.file.path.name] = others
        stage = stages[one.file.table] = StagingTable(one.file.table, one.rows.select(stored), types)
        one.faults += stage.fill(cursor, progress)
    for one in parsed_files:
        one.faults += _database_faults(cursor, stages, one, columns)
    _refuse_if_faulty(parsed_files)
    counts = {}
    for one in parsed_files:
        result = upsert(cursor, stages[one.file.table])
        if isinstance(result, UpsertCounts):
            counts[one.file.table] = result
        else:
            one.faults += [(row, f"the database refuses it: {message}") for row, message in result]
            _refuse_if_faulty([one])
    for stage in stages.values():
        stage.drop(cursor)
    return counts, ignored


def _create_missing_tables(cursor: Any) -> Mapping[str, Columns]:
    """The tables' columns, after those tables have been created that are not there; `ContractError` where they do not fit."""
    missing = [table for table in TABLES if not columns_of(cursor, table)]
    if missing:
        from bid_assets.app_db.schema import creation

        _require_schema(cursor)
        cursor.execute("; ".join(creation(missing)))
    return contract_columns(cursor)


def _require_schema(cursor: Any) -> None:
    """`ContractError` where the schema that the URL means is not there: PostgreSQL would take the next of the search path."""
    cursor.execute("SELECT current_setting('search_path'), current_schema(), current_user")
    path, current, user = cursor.fetchone()
    named = next((name.strip() for name in path.split(",") if name.strip() != '"$user"'), "")
    cursor.execute("SELECT to_regnamespace(%s) IS NOT NULL", (named,))
    if current is None or (not cursor.fetchone()[0] and current != user):
        raise ContractError(f"no tables were made: there is no schema {named or 'in the search path'}; CREATE SCHEMA it first")


def _qualified_name(cursor: Any, table: str) -> str:
    """The table with its schema, for a session that has another search path."""
    cursor.execute(
        "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = to_regclass(%s)",
        (table,),
    )
    return str(cursor.fetchone()[0])


def _database_faults(
    cursor: Any, stages: Mapping[str, StagingTable], one: _ParsedFile, columns: Mapping[str, Columns]
) -> Iterator[tuple[int, str]]:
    """Rows that are one id in the database, and those that name a profile or bid which neither it nor the files have."""
    stage = stages[one.file.table]
    for row, first in stage.equal_ids(cursor).items():
        yield (
            row,
            f"id {format_value(one.rows['id'], row)} is one id in the database with"
            f" {format_value(one.rows['id'], first)} before it",
        )
    if one.file.table in _REFERENCES:
        column, table, kind = _REFERENCES[one.file.table]
        for row in stage.unknown_references(cursor, column, table, columns[table], table in stages):
            yield row, f"{column} {format_value(one.rows[column], row)}: there is no such {kind}"
