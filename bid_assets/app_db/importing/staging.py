"""Staging tables: the rows of a file in a temporary table with the column types of their target table.

Here values that the target could not hold, or would round, are detected row by row and column by column, and so is what only
the database knows: ids that it calls equal, and dangling references. How the rows get into the target is in `upsert.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.csv as pacsv

from bid_assets.app_db.contract import TEXT, TIME
from bid_assets.app_db.importing.parsing import format_value
from bid_assets.app_db.introspection import Columns
from bid_assets.app_db.sql_ids import references_row
from bid_assets.common.progress import ProgressCallback

RefusedRow = tuple[int, str]
"""The number of a row that the database refuses, and why."""

MAX_REFUSED_ROWS = 10
"""So many are searched in a file: each takes a binary search."""

_SLICE_ROWS = 20_000
_COPIED_AS = {TEXT: "text", TIME: "timestamptz", pa.float64(): "float8", pa.bool_(): "boolean"}
_NOT_OF_A_ROW = {"08", "53", "57", "58"}  # nobody is there, no room, shut down or timed out, the disk
_INTEGERS = {"smallint", "integer", "bigint"}
_MOMENTS = {"date", "timestamp with time zone", "timestamp without time zone"}
_EXACT = dict.fromkeys(_INTEGERS | {"numeric"}, "numeric") | dict.fromkeys(_MOMENTS, "timestamptz")
"""Types of columns for which PostgreSQL rounds a value without a word -> the type in which it is compared with what was meant.

`real` is none of them: whoever has such a column wants the nearest one.
"""


@dataclass(frozen=True)
class StagingTable:
    """A table, rows for it (`import_row` counts them from 0), and what the database says of the table's columns."""

    table: str
    rows: pa.Table
    columns: Columns

    @property
    def name(self) -> str:
        """The temporary table."""
        return f"import_{self.table}"

    def fill(self, cursor: Any, progress: ProgressCallback) -> list[RefusedRow]:
        """Make the temporary table and fill it with the rows that it can hold; the others are given back."""
        names = self.rows.column_names
        copied = ", ".join(f"{name} {_COPIED_AS[self.rows.schema.field(name).type]}" for name in names)
        cursor.execute(f"CREATE TEMP TABLE {self.name}_text (import_row bigint, {copied})")
        cursor.execute(
            f"CREATE TEMP TABLE {self.name} AS SELECT NULL::bigint AS import_row, {', '.join(names)}"
            f" FROM {self.table} WITH NO DATA"
        )
        progress(self.table, 0, self.rows.num_rows)
        total = self.rows.num_rows
        if run_in_savepoint(cursor, lambda: self._copy(cursor, names, 0, total, progress)) is None:
            return self._lossy_rows(cursor)
        refused = find_refusals(cursor, lambda start, end: self._copy(cursor, names, start, end), total)
        return [(row, self._reason(cursor, row, message)) for row, message in refused]

    def _lossy_rows(self, cursor: Any) -> list[RefusedRow]:
        """The first rows that lose precision in a column: decimals, fractions of a second, a time of day."""
        kinds = {name: _EXACT.get(self.columns[name].type) for name in self.rows.column_names if not self._is_truth_value(name)}
        differs = {name: f"s.{name}::{kind} IS DISTINCT FROM r.{name}::{kind}" for name, kind in kinds.items() if kind}
        if not differs:
            return []
        column, stored = (
            f"CASE {' '.join(f'WHEN {condition} THEN {value.format(name)}' for name, condition in differs.items())} END"
            for value in ("'{}'", "s.{}::text")
        )
        cursor.execute(
            f"SELECT s.import_row, {column}, {stored} FROM {self.name} s JOIN {self.name}_text r USING (import_row)"
            f" WHERE {' OR '.join(differs.values())} ORDER BY 1 LIMIT {MAX_REFUSED_ROWS}"
        )
        return [
            (
                row,
                f"{name} {format_value(self.rows[name], row)}: the column is of type {self.columns[name].type}"
                f" and would hold {value}",
            )
            for row, name, value in cursor.fetchall()
        ]

    def _is_truth_value(self, name: str) -> bool:
        return bool(self.rows.schema.field(name).type == pa.bool_())

    def _copy(self, cursor: Any, names: list[str], start: int, end: int, progress: ProgressCallback | None = None) -> None:
        """The rows from `start` to `end`, of these columns, first as what they were parsed as and then as what the table
        has."""
        listed = ", ".join(names)
        for at in range(start, end, _SLICE_ROWS):
            part = self.rows.select(names).slice(at, min(_SLICE_ROWS, end - at))
            numbered = part.add_column(0, "import_row", pa.array(range(at, at + part.num_rows), pa.int64()))
            text = BytesIO()
            pacsv.write_csv(numbered, text, pacsv.WriteOptions(include_header=False, quoting_style="all_valid"))
            text.seek(0)
            cursor.copy_expert(f"COPY {self.name}_text (import_row, {listed}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')", text)
            if progress is not None:
                progress(self.table, at + part.num_rows, self.rows.num_rows)
        values = ", ".join(self._value(name) for name in names)
        cursor.execute(
            f"INSERT INTO {self.name} (import_row, {listed}) SELECT import_row, {values} FROM {self.name}_text r"
            f" WHERE import_row >= {start} AND import_row < {end}"
        )

    def _value(self, name: str) -> str:
        """A value as the type of its column; what a domain or a length limits is checked when it is stored."""
        sql_type, value = self.columns[name].type, f"r.{name}"
        if self._is_truth_value(name) and sql_type in _INTEGERS:
            return f"{value}::integer"
        if sql_type.endswith("[]"):
            items = f"ARRAY(SELECT json_array_elements_text({value}::json))"
            return f"CASE WHEN {value} ~ '^\\s*\\[' THEN {items}::{sql_type} ELSE {value}::{sql_type} END"
        return f"{value}::{'bpchar' if sql_type == 'character' else sql_type}"

    def _reason(self, cursor: Any, row: int, message: str) -> str:
        """The same with the column that is to blame, and its value."""
        for name in self.rows.column_names:
            alone = run_in_savepoint(cursor, lambda name=name: self._copy(cursor, [name], row, row + 1), keep=False)  # type: ignore[misc]
            if alone is not None:
                return f"{name} {format_value(self.rows[name], row)}: {alone}"
        return message

    def equal_ids(self, cursor: Any) -> dict[int, int]:
        """Rows whose id the database calls equal to that of an earlier row -> that row."""
        cursor.execute(
            "SELECT import_row, first FROM (SELECT import_row, min(import_row) OVER (PARTITION BY id) AS first"
            f" FROM {self.name} WHERE id IS NOT NULL) s WHERE import_row <> first ORDER BY import_row"
        )
        return dict(cursor.fetchall())

    def unknown_references(self, cursor: Any, column: str, named: str, named_columns: Columns, staged: bool) -> list[int]:
        """The rows whose `column` names no row of the table `named`, nor, where there are such, of the rows staged for it."""
        names = references_row("n.id", named_columns["id"], f"s.{column}", self.columns[column])
        where = "".join(
            f" AND NOT EXISTS (SELECT FROM {table} n WHERE {names})"
            for table in (named, *([f"import_{named}"] if staged else []))
        )
        cursor.execute(f"SELECT import_row FROM {self.name} s WHERE s.{column} IS NOT NULL{where} ORDER BY import_row")
        return [row for (row,) in cursor.fetchall()]

    def drop(self, cursor: Any) -> None:
        """Leave nothing on the connection, which somebody else may get."""
        cursor.execute(f"DROP TABLE {self.name}, {self.name}_text")


def run_in_savepoint(cursor: Any, work: Callable[[], object], *, keep: bool = True) -> str | None:
    """Run some work in a savepoint. Returns the database's message where it refuses (the work is rolled back then), else
    None."""
    cursor.execute("SAVEPOINT import_attempt")
    refusal = None
    try:
        work()
    except psycopg2.Error as error:
        if error.pgcode is None or error.pgcode[:2] in _NOT_OF_A_ROW:
            raise
        refusal = error.diag.message_primary or str(error).strip()
    if refusal is not None or not keep:
        cursor.execute("ROLLBACK TO SAVEPOINT import_attempt")
    cursor.execute("RELEASE SAVEPOINT import_attempt")
    return refusal


def find_refusals(cursor: Any, work: Callable[[int, int], object], rows: int) -> list[RefusedRow]:
    """The first rows that the database refuses, by binary search; the work on the others before them is done."""
    refused_rows: list[RefusedRow] = []
    start = 0
    while start < rows and len(refused_rows) < MAX_REFUSED_ROWS:
        low, high = start, rows
        if run_in_savepoint(cursor, lambda: work(start, rows)) is None:  # noqa: B023 - called at once
            break
        while high - low > 1:
            middle = (low + high) // 2
            if run_in_savepoint(cursor, lambda: work(low, middle)) is None:  # noqa: B023 - called at once
                low = middle
            else:
                high = middle
        message = run_in_savepoint(cursor, lambda: work(low, low + 1))  # noqa: B023 - called at once
        if message is not None:
            refused_rows.append((low, message))
        start = low + 1
    return refused_rows
