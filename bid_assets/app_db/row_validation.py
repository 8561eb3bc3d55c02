"""Validation of rows: which bids and outcomes are valid, and why the others are rejected, as SQL expressions.

A row is rejected by one expression (`RowSource.rejection`), which is NULL for a valid row and the reason for another: valid and
rejected rows are each other's complement because both queries (`queries.py`) ask this one expression. A reference arrives as
the id of the row that it names. Single values are in `sql_values.py`, comparisons of ids in `sql_ids.py`. Nothing here runs
a query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from bid_assets.app_db.contract import OUT_OF_RANGE, RAW_BID_OUTCOMES, RAW_BIDS
from bid_assets.app_db.contract import TEXT as CONTRACT_TEXT
from bid_assets.app_db.introspection import Columns
from bid_assets.app_db.sql_ids import (
    has_unusual_spelling,
    may_have_unusual_spelling,
    references_row,
    same_text,
)
from bid_assets.app_db.sql_values import (
    LARGEST_AMOUNT,
    as_text,
    in_range,
    indexed_time,
    is_utf8,
    moment,
    require_amount,
    result,
    unusable,
)
from bid_assets.common.windows import TimeRange


@dataclass(frozen=True)
class RowSource:
    """The FROM clauses of a table, with and without the joins that validation needs."""

    table: str
    row: str
    """Alias of the table in `validated_from` and `from_clause`."""
    validated_from: str
    """The FROM clause with the joins that `rejection` needs."""
    from_clause: str
    """The same without the joins that only `rejection` needs."""
    reference_ids: Mapping[str, str]
    """Columns whose text may differ from the id of the row that they reference -> that id as text."""
    time: str
    """The column by which rows fall into windows, bare, so that an index on it serves."""
    moment: str
    """The same as a `timestamptz`."""
    rejection: str
    """NULL for a valid row, else the first reason to reject it."""


class RowValidation:
    """What is valid in one database, by its columns: the sources of bids and outcomes."""

    def __init__(self, columns: Mapping[str, Columns]) -> None:
        self._columns = columns
        self.bids = self._bids()
        self.outcomes = self._outcomes(self.bids)
        self.outcomes_without_bid_check = self._outcomes(self._unchecked_bids())

    def _bids(self) -> RowSource:
        types = self._columns["bids"]
        at = moment("b", "bids", "submitted_at", types)
        amount = f"""
            WHEN b.amount < 0 OR b.amount > {LARGEST_AMOUNT} THEN 'amount is ' || b.amount::text"""
        if "amount" in types:
            require_amount(types)
        rejection = f"""CASE
            WHEN b.id IS NULL THEN 'has no id'
            {self._undecodable("b", "bids", RAW_BIDS)}
            WHEN {unusable(at)} THEN {_or_else("submission time is", "b.submitted_at", "has no submission time")}
            WHEN p.id IS NULL THEN coalesce('profile ' || b.profile_id::text || ' is unknown', 'has no profile')
            {self._misspelled("b", "bids", "profile_id", "p", "profiles")}
            {amount if "amount" in types else ""}
            WHEN b.job_id IS NULL THEN 'has no job'
            {self._misspelled("b", "bids", "job_id", "j", "jobs")} END"""
        profiles, jobs = (
            f" LEFT JOIN profiles p ON {self.references_profile()}",
            f" LEFT JOIN jobs j ON {self.references_job()}",
        )
        reference_ids = self._reference_ids("b", "bids", {"profile_id": ("p", "profiles"), "job_id": ("j", "jobs")})
        jobs = jobs if "job_id" in reference_ids else ""
        return RowSource(
            table="bids",
            row="b",
            validated_from=f"(bids b{profiles}{jobs})",
            from_clause=f"bids b{profiles if 'profile_id' in reference_ids else ''}{jobs}",
            reference_ids=reference_ids,
            time=indexed_time("b", "bids", "submitted_at", types),
            moment=at,
            rejection=rejection,
        )

    def _unchecked_bids(self) -> RowSource:
        """Bids of which all with a usable time are known to be valid: not validated again."""
        return replace(
            self.bids, validated_from="bids b", rejection=f"CASE WHEN {unusable(self.bids.moment)} THEN 'has no time' END"
        )

    def _outcomes(self, bids: RowSource) -> RowSource:
        types = self._columns["bid_outcomes"]
        at = moment("o", "bid_outcomes", "outcome_timestamp", types)
        rejection = f"""CASE
            WHEN o.id IS NULL THEN 'has no id'
            {self._undecodable("o", "bid_outcomes", RAW_BID_OUTCOMES)}
            WHEN b.id IS NULL THEN coalesce('bid ' || o.bid_id::text || ' is unknown', 'has no bid')
            {self._misspelled("o", "bid_outcomes", "bid_id", "b", "bids")}
            WHEN {unusable(at)} THEN {_or_else("outcome time is", "o.outcome_timestamp", "has no outcome time")}
            WHEN {result("o", types)} IS NULL THEN coalesce('result is ' || o.is_success::text, 'has no result')
            WHEN {at} < {bids.moment}
            THEN 'outcome at ' || {as_text(at)} || ' is before its bid at ' || {as_text(bids.moment)}
            ELSE 'its bid ' || b.id::text || ' was rejected: ' || ({bids.rejection}) END"""
        references_bid = references_row("b.id", self._columns["bids"]["id"], "o.bid_id", types["bid_id"])
        reference_ids = self._reference_ids("o", "bid_outcomes", {"bid_id": ("b", "bids")})
        return RowSource(
            table="bid_outcomes",
            row="o",
            validated_from=f"bid_outcomes o LEFT JOIN {bids.validated_from} ON {references_bid}",
            from_clause=f"bid_outcomes o{f' LEFT JOIN bids b ON {references_bid}' if reference_ids else ''}",
            reference_ids=reference_ids,
            time=indexed_time("o", "bid_outcomes", "outcome_timestamp", types),
            moment=at,
            rejection=rejection,
        )

    def _reference_ids(self, row: str, table: str, references: Mapping[str, tuple[str, str]]) -> dict[str, str]:
        """References (column -> alias and name of the table) whose text may not be the id's -> the id that arrives instead."""
        return {
            column: f"coalesce({alias}.id::text, {row}.{column}::text)"
            for column, (alias, referenced) in references.items()
            if not same_text(self._columns[referenced]["id"], self._columns[table][column])
        }

    def _misspelled(self, row: str, table: str, column: str, alias: str, referenced: str) -> str:
        """A branch of a rejection for references that no lookup finds (see `sql_ids.py`); empty where there are none."""
        row_id, reference = self._columns[referenced]["id"], self._columns[table][column]
        if not may_have_unusual_spelling(row_id, reference):
            return ""
        unusual_spelling = has_unusual_spelling(f"{alias}.id", row_id, f"{row}.{column}", reference)
        return f"""WHEN {unusual_spelling}
            THEN '{column} ' || {row}.{column}::text || ' is an unusual spelling of the id ' || {alias}.id::text"""

    def _undecodable(self, row: str, table: str, schema: pa.Schema) -> str:
        """Branches of a rejection for texts that are not UTF-8; empty where the database sees to it that they are."""
        return " ".join(
            f"WHEN NOT {is_utf8(f'{row}.{name}::text')} THEN '{name} is not UTF-8'"
            for name in self.texts_without_encoding(table, schema)
        )

    def texts_without_encoding(self, table: str, schema: pa.Schema) -> list[str]:
        """The text columns whose encoding the database does not enforce."""
        columns = self._columns[table]
        texts = [field.name for field in schema if field.type == CONTRACT_TEXT and field.name in columns]
        return [name for name in texts if not columns[name].has_encoding]

    def references_profile(self) -> str:
        """Whether the profile `p` is that of the bid `b`."""
        return references_row("p.id", self._columns["profiles"]["id"], "b.profile_id", self._columns["bids"]["profile_id"])

    def references_job(self) -> str:
        """Whether the job `j` is that of the bid `b`."""
        return references_row("j.id", self._columns["jobs"]["id"], "b.job_id", self._columns["bids"]["job_id"])


def is_valid(source: RowSource) -> str:
    """True for a valid row. The planner takes `CASE IS NULL` to be rare, a boolean CASE to be even: that plans better."""
    return f"CASE WHEN ({source.rejection}) IS NULL THEN true END"


def outside(source: RowSource, windows: TimeRange) -> str:
    """Whether a row has no time in these windows."""
    return f"({source.time} IS NULL OR NOT ({in_range(source.time, windows)}))"


def out_of_range_rejection(source: RowSource) -> str:
    """Why a row is rejected that stands in another window than its own, if it has one."""
    suffix = f"' (at ' || {as_text(source.moment)} || ', {OUT_OF_RANGE})'"
    return f"({source.rejection}) || CASE WHEN {unusable(source.moment)} THEN '' ELSE {suffix} END"


def _or_else(start: str, column: str, otherwise: str) -> str:
    return f"coalesce('{start} ' || {as_text(column)}, '{otherwise}')"
