"""The SQL queries of the application's database: valid rows, rejected rows, look-ups, counts.

Which rows are valid is in `row_validation.py`, single values in `sql_values.py`, comparisons of ids in `sql_ids.py`. Nothing
here runs a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import pyarrow as pa

from bid_assets.app_db.contract import RAW_BIDS, TIME
from bid_assets.app_db.introspection import Columns
from bid_assets.app_db.row_validation import RowSource, RowValidation, is_valid, out_of_range_rejection, outside
from bid_assets.app_db.sql_ids import (
    TEXT,
    is_referenced_by_row,
    may_have_unusual_spelling,
    references_row,
    same_text,
)
from bid_assets.app_db.sql_values import (
    USABLE_TIMES,
    in_range,
    is_utf8,
    literal,
    result,
    text_reason,
    time_bin,
    time_reason,
    value,
)
from bid_assets.common.windows import Cadence, TimeRange

REASON_OF = "reason_of_"
"""Begins the name of a column that says of another one's values whether they could be read (see `readability.py`)."""


class Queries:
    """All queries of one database, for one cadence."""

    def __init__(self, columns: Mapping[str, Columns], cadence: Cadence) -> None:
        self._columns = columns
        self._cadence = cadence
        self._validation = validation = RowValidation(columns)
        self.bids, self.outcomes = validation.bids, validation.outcomes
        self.outcomes_without_bid_check = validation.outcomes_without_bid_check

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
        reasons |= {name: text_reason(f"n.{name}::text") for name in self._validation.texts_without_encoding(table, schema)}
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
        jobs = f" LEFT JOIN jobs j ON {self._validation.references_job()}" if needs_job else ""
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
            f" LEFT JOIN profiles p ON {self._validation.references_profile()} WHERE {is_valid(self.bids)}"
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
