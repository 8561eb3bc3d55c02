"""The SQL of the reader: which rows of each table are read, and which are rejected, and why.

A row is rejected by one expression (`RowSource.rejection`), which is NULL for a valid row and words for another: valid and
rejected rows are each other's complement because both queries ask this one expression. A reference arrives as the id of the
row that it names. Single values are in `sql_values.py`, comparisons of ids in `sql_ids.py`. Nothing here runs a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from bid_assets.app_db.contract import OUT_OF_RANGE, RAW_BID_OUTCOMES, RAW_BIDS, TIME
from bid_assets.app_db.contract import TEXT as CONTRACT_TEXT
from bid_assets.app_db.introspection import Columns
from bid_assets.app_db.sql_ids import (
    TEXT,
    has_unusual_spelling,
    is_referenced_by_row,
    may_have_unusual_spelling,
    references_row,
    same_text,
)
from bid_assets.app_db.sql_values import (
    LARGEST_AMOUNT,
    USABLE_TIMES,
    as_text,
    in_range,
    indexed_time,
    is_utf8,
    literal,
    moment,
    require_amount,
    result,
    text_reason,
    time_bin,
    time_reason,
    unusable,
    value,
)
from bid_assets.common.windows import Cadence, TimeRange

REASON_OF = "reason_of_"
"""Begins the name of a column that says of another one's values whether they could be read (see `readability.py`)."""


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


class Queries:
    """All queries of one database, for one cadence."""

    def __init__(self, columns: Mapping[str, Columns], cadence: Cadence) -> None:
        self._columns = columns
        self._cadence = cadence
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
            f" LEFT JOIN profiles p ON {self._references_profile()}",
            f" LEFT JOIN jobs j ON {self._references_job()}",
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
            for name in self._texts_without_encoding(table, schema)
        )

    def _texts_without_encoding(self, table: str, schema: pa.Schema) -> list[str]:
        columns = self._columns[table]
        texts = [field.name for field in schema if field.type == CONTRACT_TEXT and field.name in columns]
        return [name for name in texts if not columns[name].has_encoding]

    def _references_profile(self) -> str:
        return references_row("p.id", self._columns["profiles"]["id"], "b.profile_id", self._columns["bids"]["profile_id"])

    def _references_job(self) -> str:
        return references_row("j.id", self._columns["jobs"]["id"], "b.job_id", self._columns["bids"]["job_id"])

    def valid_rows(self, source: RowSource, schema: pa.Schema, span: TimeRange) -> str:
        """The valid rows of `span`, with the columns of `schema`."""
        return (
            f"SELECT {self._select(source.row, source.table, schema, source.reference_ids)} FROM {source.validated_from}"
            f" WHERE {in_range(source.time, span)} AND {is_valid(source)}"
        )

    def all_rows(self, source: RowSource, schema: pa.Schema, span: TimeRange) -> str:
        """The rows of `span`, valid or not, with the columns of `schema`."""
        columns = self._select(source.row, source.table, schema, source.reference_ids)
        return f"SELECT {columns} FROM {source.from_clause} WHERE {in_range(source.time, span)}"

    def rejected_ids(self, source: RowSource, span: TimeRange) -> str:
        """The `id` of each rejected row of `span`, as text."""
        return (
            f"SELECT {value(source.row, source.table, RAW_BIDS.field('id'), self._columns[source.table])} AS id"
            f" FROM {source.validated_from} WHERE {in_range(source.time, span)} AND ({source.rejection}) IS NOT NULL"
        )

    def rejected_rows(
        self,
        dated: Iterable[RowSource],
        span: TimeRange,
        out_of_range: Iterable[RowSource],
        substitute: datetime,
        windows: TimeRange,
    ) -> str:
        """The rejected rows of `dated` in `span`, with the columns of `REJECTED_ROWS`; empty where there is no source.

        Beside them the rows of `out_of_range` without a time in `windows`, all of which are rejected, in the window of
        `substitute`.
        """
        parts = [
            f"{self._rejected(source, self.window(source.moment), source.rejection)}"
            f" WHERE {in_range(source.time, span)} AND {in_range(source.time, windows)} AND ({source.rejection}) IS NOT NULL"
            for source in dated
        ] + [
            f"{self._rejected(source, self.window(f'{literal(substitute)}::timestamptz'), out_of_range_rejection(source))}"
            f" WHERE {outside(source, windows)}"
            for source in out_of_range
        ]
        return " UNION ALL ".join(parts)

    def rows_by_id(self, table: str, schema: pa.Schema, texts: str = "$1", *, with_reasons: bool = False) -> str:
        """The rows of `table` (jobs or profiles) whose ids are among the bound `texts`.

        Beside the columns of `schema` it gives `at`: which of the texts it was, counted from one; and with reasons, for each
        time whether it could be read, and for each text where the database does not see to it.
        """
        reasons = self._reasons(table, schema) if with_reasons else ""
        return (
            f"SELECT {self._select('n', table, schema, {})}{reasons}, w.at"
            f" FROM unnest({texts}::text[]) WITH ORDINALITY w(id, at) JOIN {table} n ON {self._is_text('n', table)}"
        )

    def _reasons(self, table: str, schema: pa.Schema) -> str:
        """For each time of `schema`, and each text that may not be UTF-8, whether it can be read, as further columns."""
        times = [field.name for field in schema if field.type == TIME]
        reasons = {name: time_reason("n", table, name, self._columns[table]) for name in times}
        reasons |= {name: text_reason(f"n.{name}::text") for name in self._texts_without_encoding(table, schema)}
        return "".join(f", {reason} AS {REASON_OF}{name}" for name, reason in reasons.items())

    def _is_text(self, row: str, table: str) -> str:
        """Whether the id of a row is the text `w.id`."""
        return references_row(f"{row}.id", self._columns[table]["id"], "w.id", TEXT)

    def bids_of_profiles(self) -> str:
        """Valid bids of the profiles $1 (texts) submitted in [$2, $3): id, submitted_at, and the owner as $1 has it."""
        profile_id, reference = self._columns["profiles"]["id"], self._columns["bids"]["profile_id"]
        bids = self._recent_bids(is_referenced_by_row("p.id", profile_id, "b.profile_id", reference))
        owners = f"unnest($1::text[]) w(id) JOIN profiles p ON {self._is_text('p', 'profiles')}"
        needs_job = may_have_unusual_spelling(self._columns["jobs"]["id"], self._columns["bids"]["job_id"])
        jobs = f" LEFT JOIN jobs j ON {self._references_job()}" if needs_job else ""
        return (
            f"SELECT b.id, b.submitted_at, w.id AS owner FROM {owners} CROSS JOIN LATERAL {bids}{jobs}"
            f" WHERE {is_valid(self.bids)}"
        )

    def bids_of_clients(self) -> str:
        """The same of the bids on all jobs of a client: the clients of the jobs $4, and those of $5 (texts).

        For a database where jobs have one. A client is no row of its own, so that its id is its text.
        """
        of_jobs = f"SELECT n.client_id::text FROM unnest($4::text[]) w(id) JOIN jobs n ON {self._is_text('n', 'jobs')}"
        clients = f"({of_jobs} WHERE n.client_id IS NOT NULL UNION SELECT unnest($5::text[])) w(id)"
        client_id, job_id = self._columns["jobs"]["client_id"], self._columns["jobs"]["id"]
        is_client = references_row("j.client_id", client_id, "w.id", TEXT)
        if not same_text(client_id, client_id):
            is_client += " AND j.client_id::text = w.id"
        jobs = f"(SELECT * FROM jobs j WHERE {is_client} OFFSET 0) j"
        bids = self._recent_bids(is_referenced_by_row("j.id", job_id, "b.job_id", self._columns["bids"]["job_id"]))
        return (
            f"SELECT b.id, b.submitted_at, w.id AS owner FROM {clients} CROSS JOIN LATERAL {jobs} CROSS JOIN LATERAL {bids}"
            f" LEFT JOIN profiles p ON {self._references_profile()} WHERE {is_valid(self.bids)}"
        )

    def outcomes_of(self, bids: str) -> str:
        """Valid outcomes of `bids`, a table as the two queries above give it: its columns as `b`, those of outcomes as `o`."""
        source = self.outcomes_without_bid_check
        is_its = is_referenced_by_row("b.id", self._columns["bids"]["id"], "o.bid_id", self._columns["bid_outcomes"]["bid_id"])
        return f"{bids} b JOIN bid_outcomes o ON {is_its} WHERE {is_valid(source)}"

    def referenced_rows(self, table: str, referencing: str) -> str:
        """A FROM clause of bids, each with the row `n` of `table` (jobs or profiles) that it references."""
        column, reference = self._columns[table]["id"], self._columns["bids"][referencing]
        return f"{self.bids.validated_from} JOIN {table} n ON {references_row('n.id', column, f'b.{referencing}', reference)}"

    def result(self) -> str:
        """The result of the outcome `o`, a boolean."""
        return result("o", self._columns["bid_outcomes"])

    def jobs_have_clients(self) -> bool:
        """Whether the database says whose a job is."""
        return "client_id" in self._columns["jobs"]

    def _recent_bids(self, condition: str) -> str:
        """Bids that meet a condition on the row before, submitted in [$2, $3).

        A plan made once, for any span, takes two bounds for a narrow one, and would read the recent bids of everybody. So
        OFFSET 0 fences the search of each owner, and the upper bound is put as no index knows it.
        """
        at = self.bids.moment
        recent = f"{at} >= $2::timestamptz AND {at} + interval '0' < $3::timestamptz"
        return f"(SELECT * FROM bids b WHERE {condition} AND {recent} OFFSET 0) b"

    def hourly_counts(self, source: RowSource, span: TimeRange) -> str:
        """Rows of `span` per hour, valid or not."""
        return (
            f"SELECT {time_bin('1 hour', source.moment)} AS bucket, count(*) AS rows FROM {source.table} {source.row}"
            f" WHERE {in_range(source.time, span)} GROUP BY 1"
        )

    def ends(self, source: RowSource) -> str:
        """The first and the last usable time of a table."""
        return (
            f"SELECT min({source.moment}) AS first, max({source.moment}) AS last FROM {source.table} {source.row}"
            f" WHERE {in_range(source.time, USABLE_TIMES)}"
        )

    def valid_ends(self, source: RowSource) -> str:
        """The first and the last time of the valid rows; each is found by an index, where there is one."""
        first, last = (
            f"(SELECT {source.moment} FROM {source.validated_from} WHERE {in_range(source.time, USABLE_TIMES)}"
            f" AND {is_valid(source)} ORDER BY {source.time} {order} LIMIT 1)"
            for order in ("ASC", "DESC")
        )
        return f"SELECT {first} AS first, {last} AS last"

    def rows_outside(self, source: RowSource, span: TimeRange) -> str:
        """How many rows with a usable time lie before `span`, and how many after it."""
        before, after = f"{source.time} < {literal(span.start)}", f"{source.time} >= {literal(span.end)}"
        return (
            f"SELECT count(*) FILTER (WHERE {before}) AS before, count(*) FILTER (WHERE {after}) AS after"
            f" FROM {source.table} {source.row} WHERE ({before} OR {after}) AND {in_range(source.time, USABLE_TIMES)}"
        )

    def window(self, at: str) -> str:
        """The start of the window that a time lies in."""
        return time_bin(f"{self._cadence.length.days} days", at)

    def _rejected(self, source: RowSource, window: str, reason: str) -> str:
        id_text = f"{source.row}.id::text"
        if not self._columns[source.table]["id"].has_encoding:
            id_text = (
                f"CASE WHEN {is_utf8(id_text)} THEN {id_text} ELSE encode(convert_to({id_text}, 'SQL_ASCII'), 'escape') END"
            )
        return f"""SELECT {window} AS window, '{source.table}' AS "table", {id_text} AS id,
            {reason} AS reason FROM {source.validated_from}"""

    def _select(self, alias: str, table: str, schema: pa.Schema, reference_ids: Mapping[str, str]) -> str:
        types = self._columns[table]
        return ", ".join(
            f"{reference_ids.get(field.name) or value(alias, table, field, types)} AS {field.name}" for field in schema
        )


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
