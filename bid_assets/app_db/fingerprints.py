"""A fingerprint of every window's rows, computed in the database: equal fingerprints, equal rows.

For comparing all of the database with what the store has read: finds edits, deletions, and rows dated back. The hashes are
sums over rows, so no order matters; they cover the contract's columns that are there. New rows are followed, at a much
smaller cost, by `new_rows.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bid_assets.app_db.contract import RAW_BID_OUTCOMES, RAW_BIDS, RAW_JOBS, RAW_PROFILES, VOLATILE_COLUMNS
from bid_assets.app_db.introspection import Column, Columns, contract_columns
from bid_assets.app_db.queries import Queries
from bid_assets.app_db.row_validation import RowSource, is_valid, out_of_range_rejection, outside
from bid_assets.app_db.sql_values import USABLE_TIMES, in_range, literal
from bid_assets.app_db.time_extent import Extent, extent_of
from bid_assets.common.windows import Cadence, TimeRange

Fingerprints = dict[str, dict[str, list[Any]]]
"""Window -> table -> [rows, hash]. Rejected rows are a table of their own, `rejected_<table>`: no feature is made of them."""

_SCHEMAS = {"bids": RAW_BIDS, "bid_outcomes": RAW_BID_OUTCOMES, "jobs": RAW_JOBS, "profiles": RAW_PROFILES}
_HASHED_AS_THEY_ARE = {
    "text",
    "character varying",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "boolean",
    "uuid",
    "jsonb",
    "date",
    "timestamp with time zone",
    "timestamp without time zone",
}
"""Types whose equal values have equal text. Others are hashed as text: they may have no hash, or one for `7` and `7.00`."""


def window_fingerprints(cursor: Any, cadence: Cadence, span: TimeRange | None) -> Fingerprints:
    """The fingerprints of the windows that overlap `span`; None: of all. `cursor`: any DB-API cursor, in UTC.

    Valid rows count in the window of their own time, jobs and profiles in each window whose valid bids name them, as often
    as they are named. Rejected rows count, with their reason, in the window where the reader has them. Raises `ContractError`.
    """
    columns = contract_columns(cursor)
    queries = Queries(columns, cadence)
    extent = extent_of(cursor, queries, cadence)
    fingerprints: Fingerprints = {}
    for source in (queries.bids, queries.outcomes):
        hashed = _row(source.row, source.table, columns[source.table])
        _add(fingerprints, cursor, _row_hashes(queries, source, hashed, extent, span or USABLE_TIMES))
    for table, reference in (("jobs", "job_id"), ("profiles", "profile_id")):
        _add(
            fingerprints,
            cursor,
            _referenced_row_hashes(queries, table, reference, _row("n", table, columns[table]), span or USABLE_TIMES),
        )
    return fingerprints


def changed_windows(recorded: Mapping[str, Mapping[str, Any]], present: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The windows whose fingerprints differ; a table that is absent has no rows."""
    return {key for key in {*recorded, *present} if _as_lists(recorded.get(key, {})) != _as_lists(present.get(key, {}))}


def _as_lists(tables: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {table: list(fingerprint) for table, fingerprint in tables.items()}


def _add(fingerprints: Fingerprints, cursor: Any, query: str) -> None:
    """The answer of a query that gives window, table, number of rows and hash."""
    cursor.execute(query)
    for key, table, rows, total in cursor.fetchall():
        fingerprints.setdefault(key, {})[table] = [rows, total]


def _row_hashes(queries: Queries, source: RowSource, hashed: str, extent: Extent, span: TimeRange) -> str:
    """The rows of a table in the windows of `span`, the valid ones and the rejected ones apart."""
    substitute = f"{literal(extent.time_for_undated_rows)}::timestamptz"
    inside = in_range(source.time, extent.windows)
    at = f"CASE WHEN {inside} THEN {source.moment} ELSE {substitute} END"
    reason = f"CASE WHEN {inside} THEN {source.rejection} ELSE {out_of_range_rejection(source)} END"
    rows = f"({in_range(source.time, span)} AND {inside})"
    if extent.time_for_undated_rows in span:
        rows += f" OR {outside(source, extent.windows)}"
    return (
        f"SELECT {_key(queries, 'at')}, CASE WHEN reason IS NULL THEN '' ELSE 'rejected_' END || '{source.table}', count(*),"
        " sum(CASE WHEN reason IS NULL THEN hash ELSE hash_record_extended(row(id, reason), 0) END)::text"
        f" FROM (SELECT {at} AS at, {reason} AS reason, {source.row}.id::text AS id, {hashed} AS hash"
        f" FROM {source.validated_from} WHERE {rows} OFFSET 0) hashes GROUP BY 1, 2"
    )


def _referenced_row_hashes(queries: Queries, table: str, reference: str, hashed: str, span: TimeRange) -> str:
    """The rows of jobs or profiles that the valid bids of `span` name."""
    bids = queries.bids
    return (
        f"SELECT {_key(queries, bids.moment)}, '{table}', count(*), sum({hashed})::text"
        f" FROM {queries.referenced_rows(table, reference)} WHERE {in_range(bids.time, span)} AND {is_valid(bids)} GROUP BY 1"
    )


def _key(queries: Queries, at: str) -> str:
    return f"to_char({queries.window(at)}, 'YYYY-MM-DD')"


def _row(alias: str, table: str, columns: Columns) -> str:
    """The hash of a row: of the contract's columns that the table has and that make a version."""
    names = [field.name for field in _SCHEMAS[table] if field.name in columns and field.name not in VOLATILE_COLUMNS]
    values = ", ".join(f"{alias}.{name}{'' if _is_hashed_as_it_is(columns[name]) else '::text'}" for name in names)
    return f"hash_record_extended(row({values}), 0)"


def _is_hashed_as_it_is(column: Column) -> bool:
    return column.type in _HASHED_AS_THEY_ARE and column.is_deterministic
