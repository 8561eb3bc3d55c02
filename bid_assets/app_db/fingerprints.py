"""A fingerprint of every window's rows, computed in the database: equal fingerprints, equal rows.

For comparing all of the database with what the store has read: finds edits, deletions, and rows dated back. The hashes are
sums over rows, so no order matters; they cover the contract's columns that are there. New rows are followed, at a much
smaller cost, by `arrivals.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bid_assets.app_db.contract import RAW_BID_OUTCOMES, RAW_BIDS, RAW_JOBS, RAW_PROFILES, VOLATILE_COLUMNS
from bid_assets.app_db.introspection import contract_columns
from bid_assets.app_db.queries import USABLE_TIMES, Queries, RowSource, _within
from bid_assets.windows import Cadence, TimeRange

Fingerprints = dict[str, dict[str, list[Any]]]
"""Window -> table -> [rows, hash]. Rows without a usable time are a table of their own, `undated_<table>`."""

_SCHEMAS = {"bids": RAW_BIDS, "bid_outcomes": RAW_BID_OUTCOMES, "jobs": RAW_JOBS, "profiles": RAW_PROFILES}
_NOT_HASHABLE = {"json", "xml", "money", "json[]"}
_BID_OF_OUTCOME = "b.id, b.profile_id, b.job_id, b.submitted_at, p.id IS NULL"
"""What decides, beside an outcome itself, whether it is valid."""


def window_fingerprints(cursor: Any, cadence: Cadence, span: TimeRange | None) -> Fingerprints:
    """The fingerprints of the windows that overlap `span`; None: of all. `cursor`: any DB-API cursor, in UTC.

    An outcome counts in the window of its own time, with what makes it valid or not; jobs and profiles in each window whose
    bids name them, as often as they are named. Undated rows count in the window of the newest dated bid, as the reader
    has it. Raises `ContractError`.
    """
    columns = contract_columns(cursor)
    queries = Queries(columns, cadence)
    asked = span or USABLE_TIMES
    amount = ", b.amount" if "amount" in columns["bids"] else ""
    found: Fingerprints = {}

    def add(table: str, alias: str, source: RowSource, joined: str, more: str = "") -> None:
        hashed = ", ".join([*_present(alias, table, columns), *([more] if more else [])])
        _add(found, table, cursor, cadence, source, joined, f"row({hashed})", asked)

    bids, outcomes = queries.bids, queries.outcomes
    add("bids", "b", bids, bids.joined, "p.id IS NULL")
    add("bid_outcomes", "o", outcomes, outcomes.joined, _BID_OF_OUTCOME + amount)
    for table, alias, named_by in (("jobs", "n", "job_id"), ("profiles", "n", "profile_id")):
        add(table, alias, bids, f"bids b JOIN {table} n ON {queries._same('n', table, 'id', 'b', 'bids', named_by)}")
    home = _home_of_undated(cursor, queries, cadence)
    if home is not None and (span is None or cadence.window(home).start in span):
        for source in (bids, outcomes):
            _add_undated(found.setdefault(home, {}), cursor, source)
    return {key: tables for key, tables in found.items() if tables}


def changed(recorded: Mapping[str, Mapping[str, Any]], present: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The windows whose fingerprints differ; a table that is absent has no rows."""
    return {key for key in {*recorded, *present} if _plain(recorded.get(key, {})) != _plain(present.get(key, {}))}


def _plain(tables: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {table: list(fingerprint) for table, fingerprint in tables.items()}


def _present(alias: str, table: str, columns: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The contract's columns that the table has and that make a version; as text where PostgreSQL cannot hash the type."""
    names = [field.name for field in _SCHEMAS[table] if field.name in columns[table] and field.name not in VOLATILE_COLUMNS]
    return [f"{alias}.{name}{'::text' if columns[table][name] in _NOT_HASHABLE else ''}" for name in names]


def _add(
    found: Fingerprints,
    table: str,
    cursor: Any,
    cadence: Cadence,
    source: RowSource,
    joined: str,
    hashed: str,
    span: TimeRange,
) -> None:
    length = cadence.length.days
    cursor.execute(
        f"SELECT to_char(date_bin('{length} days', {source.moment}, '1970-01-05T00:00:00Z'::timestamptz), 'YYYY-MM-DD'), "
        f"count(*), sum(hash_record_extended({hashed}, 0))::text FROM {joined} WHERE {_within(source.time, span)} GROUP BY 1"
    )
    for key, rows, total in cursor.fetchall():
        found.setdefault(key, {})[table] = [rows, total]


def _add_undated(tables: dict[str, list[Any]], cursor: Any, source: RowSource) -> None:
    cursor.execute(
        f"SELECT count(*), sum(hashtextextended({source.row}.id::text, 0))::text FROM {source.table} {source.row} "
        f"WHERE {source.time} IS NULL OR NOT ({_within(source.time, USABLE_TIMES)})"
    )
    rows, total = cursor.fetchall()[0]
    if rows:
        tables[f"undated_{source.table}"] = [rows, total]


def _home_of_undated(cursor: Any, queries: Queries, cadence: Cadence) -> str | None:
    """The window of the newest dated bid, else of the newest outcome."""
    for source in (queries.bids, queries.outcomes):
        cursor.execute(queries.ends(source))
        newest = cursor.fetchall()[0][1]
        if newest is not None:
            return cadence.key(newest)
    return None
