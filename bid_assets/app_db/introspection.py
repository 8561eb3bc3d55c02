"""Which of the contract's tables and columns a database really has, and of which types.

Nothing is read of the rows, except that ids are checked to be unique where the database does not promise it.
Works with any DB-API cursor whose parameters are not needed (ADBC and psycopg 2 both do).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bid_assets.app_db.contract import REQUIRED_COLUMNS, ContractError


@dataclass(frozen=True)
class Column:
    """A column of a table or view."""

    type: str
    """As PostgreSQL spells it (`text`, `timestamp with time zone`, `text[]`); of a domain the type that it rests on."""
    collation: str | None = None
    """Quoted, with its schema; None where it is the database's own, or where the type has none."""
    is_deterministic: bool = True
    """Whether texts that the collation calls equal are the same bytes."""
    is_generated: bool = False
    """Whether the database computes it, so that nobody else can write it."""
    has_encoding: bool = True
    """Whether the database sees to it that text is of its encoding; one of SQL_ASCII takes any bytes."""


Columns = Mapping[str, Column]
"""Column name -> column."""

_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT a.attnum, a.attname, a.attcollation, a.attgenerated, a.atttypid AS type FROM pg_attribute a
    WHERE a.attrelid = to_regclass('{table}') AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, b.attname, b.attcollation, b.attgenerated, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.type
    WHERE t.typtype = 'd'
)
SELECT b.attname::text, format_type(b.type, NULL),
    CASE WHEN c.collname <> 'default' THEN quote_ident(n.nspname) || '.' || quote_ident(c.collname) END,
    coalesce(c.collisdeterministic, true), b.attgenerated <> '',
    current_setting('server_encoding') <> 'SQL_ASCII'
FROM base b JOIN pg_type t ON t.oid = b.type LEFT JOIN pg_collation c ON c.oid = b.attcollation
LEFT JOIN pg_namespace n ON n.oid = c.collnamespace WHERE t.typtype <> 'd' ORDER BY b.attnum
"""

_UNIQUE_ID = """
SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = to_regclass('{table}') AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1 AND i.indpred IS NULL
AND a.attname = 'id' AND i.indcollation[0] = a.attcollation
"""

_REPEATED_ID = "SELECT id::text, count(*) FROM {table} WHERE id IS NOT NULL GROUP BY id HAVING count(*) > 1 LIMIT 1"


def columns_of(cursor: Any, table: str) -> Columns:
    """The columns of a table or view as the search path finds it; empty where there is none."""
    cursor.execute(_COLUMNS.format(table=table))
    return {name: Column(*described) for name, *described in cursor.fetchall()}


def contract_columns(cursor: Any) -> Mapping[str, Columns]:
    """The columns of all four tables; `ContractError` where a table or a required column is missing, or an id repeats."""
    shapes = contract_shapes(cursor)
    for table in shapes:
        _require_unique_ids(cursor, table)
    return shapes


def contract_shapes(cursor: Any) -> Mapping[str, Columns]:
    """As `contract_columns`, but no row is looked at: whether ids are unique is not asked."""
    shapes = {table: columns_of(cursor, table) for table in REQUIRED_COLUMNS}
    problems = [problem for table, columns in shapes.items() for problem in _missing(table, columns)]
    if problems:
        raise ContractError(
            "the application's database does not fit the table contract: "
            + "; ".join(problems)
            + ". See docs/reference/table_contract.md; a view of that name will do."
        )
    return shapes


def _missing(table: str, columns: Columns) -> list[str]:
    if not columns:
        return [f"table {table} is missing"]
    return [f"column {table}.{name} is missing" for name in REQUIRED_COLUMNS[table] if name not in columns]


def _require_unique_ids(cursor: Any, table: str) -> None:
    """Joins by id rely on it; a primary key promises it, a view does not."""
    cursor.execute(_UNIQUE_ID.format(table=table))
    if cursor.fetchall()[0][0]:
        return
    cursor.execute(_REPEATED_ID.format(table=table))
    for repeated, times in cursor.fetchall():
        raise ContractError(f"{table}.id must be unique, but {repeated!r} occurs {times} times")
