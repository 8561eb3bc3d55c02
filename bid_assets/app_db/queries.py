"""The SQL of the reader: what each contract column is called and cast to, and which rows are rejected, and why.

A row is rejected by one expression (`RowSource.rejection`), which is NULL for a valid row and words for another: valid and
rejected rows are each other's complement because both queries ask this one expression. Nothing here runs a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from bid_assets.app_db import contract
from bid_assets.app_db.contract import ContractError
from bid_assets.app_db.introspection import ColumnTypes
from bid_assets.windows import MONDAY, Cadence, TimeRange

USABLE_TIMES = TimeRange(MONDAY, Cadence.WEEKLY.floor(datetime.max.replace(tzinfo=UTC)))
"""Times that a window can hold. Others (infinite, before 1970, beyond the year 9999) are as good as none."""

_LARGEST_AMOUNT = "1.7976931348623157e308"  # of a float8; NaN and infinity are greater in PostgreSQL's order
_TEXTS = {"text", "character varying", "name", "citext"}
_INTEGERS = {"smallint", "integer", "bigint"}
_CASTS = {"integer": "bigint", "uuid": "uuid"}
_REALS = {"real", "double precision"}
_MOMENTS = {"timestamp with time zone", "timestamp without time zone", "date"}


@dataclass(frozen=True)
class RowSource:
    """Where the rows of a table come from, joined with what is needed to judge them."""

    table: str
    row: str
    """Alias of the table in `joined`."""
    joined: str
    """The FROM clause."""
    time: str
    """The column by which rows fall into windows, bare, so that an index on it serves."""
    moment: str
    """The same as a `timestamptz`."""
    rejection: str
    """NULL for a valid row, else the first reason to reject it."""


class Queries:
    """All queries of one database, for one cadence."""

    def __init__(self, columns: Mapping[str, ColumnTypes], cadence: Cadence) -> None:
        self._columns = columns
        self._cadence = cadence
        self.bids = self._bids()
        self.outcomes = self._outcomes(self.bids)
        self.outcomes_of_flawless_bids = self._outcomes(self._flawless_bids())

    def _bids(self) -> RowSource:
        types = self._columns["bids"]
        moment = _moment("b", "submitted_at", types)
        amount = f"""
            WHEN b.amount < 0 OR b.amount > {_LARGEST_AMOUNT} THEN 'amount is ' || b.amount::text"""
        if "amount" in types:
            _require_type("bids", "amount", types, _INTEGERS | _REALS | {"numeric"})
        rejection = f"""CASE
            WHEN b.id IS NULL THEN 'has no id'
            WHEN {_unusable(moment)} THEN {_or_else("submission time is", moment, "has no submission time")}
            WHEN p.id IS NULL THEN coalesce('profile ' || b.profile_id::text || ' is unknown', 'has no profile')
            {amount if "amount" in types else ""}
            WHEN b.job_id IS NULL THEN 'has no job' END"""
        joined = f"(bids b LEFT JOIN profiles p ON {self._same('p', 'profiles', 'id', 'b', 'bids', 'profile_id')})"
        return RowSource("bids", "b", joined, _time("b", "submitted_at", types), moment, rejection)

    def _flawless_bids(self) -> RowSource:
        """Bids of which it is known that all with a usable time are valid."""
        return replace(self.bids, joined="bids b", rejection=f"CASE WHEN {_unusable(self.bids.moment)} THEN 'has no time' END")

    def _outcomes(self, bids: RowSource) -> RowSource:
        types = self._columns["bid_outcomes"]
        moment = _moment("o", "outcome_timestamp", types)
        bid_moment = bids.moment
        rejection = f"""CASE
            WHEN o.id IS NULL THEN 'has no id'
            WHEN b.id IS NULL THEN coalesce('bid ' || o.bid_id::text || ' is unknown', 'has no bid')
            WHEN {_unusable(moment)} THEN {_or_else("outcome time is", moment, "has no outcome time")}
            WHEN {_result("o", types)} IS NULL THEN coalesce('result is ' || o.is_success::text, 'has no result')
            WHEN {moment} < {bid_moment}
            THEN 'outcome at ' || {_words(moment)} || ' is before its bid at ' || {_words(bid_moment)}
            ELSE 'its bid ' || b.id::text || ' was rejected: ' || ({bids.rejection}) END"""
        joined = f"bid_outcomes o LEFT JOIN {bids.joined} ON {self._same('b', 'bids', 'id', 'o', 'bid_outcomes', 'bid_id')}"
        return RowSource("bid_outcomes", "o", joined, _time("o", "outcome_timestamp", types), moment, rejection)

    def _same(self, alias: str, table: str, column: str, other: str, other_table: str, other_column: str) -> str:
        """Equality of two ids; by their text only where their types cannot be compared, since that forgoes indexes."""
        left, right = self._columns[table][column], self._columns[other_table][other_column]
        cast = "" if _kin(left) == _kin(right) else "::text"
        return f"{alias}.{column}{cast} = {other}.{other_column}{cast}"

    def valid_rows(self, source: RowSource, schema: pa.Schema, span: TimeRange) -> str:
        """The valid rows of `span`, with the columns of `schema`."""
        return (
            f"SELECT {self._select(source.row, source.table, schema)} FROM {source.joined}"
            f" WHERE {_within(source.time, span)} AND {_is_valid(source)}"
        )

    def all_rows(self, source: RowSource, schema: pa.Schema, span: TimeRange) -> str:
        """The rows of `span`, valid or not, with the columns of `schema`."""
        columns = self._select(source.row, source.table, schema)
        return f"SELECT {columns} FROM {source.table} {source.row} WHERE {_within(source.time, span)}"

    def rejected_ids(self, source: RowSource, span: TimeRange) -> str:
        """The `id` of each rejected row of `span`, as text."""
        return (
            f"SELECT {source.row}.id::text AS id FROM {source.joined}"
            f" WHERE {_within(source.time, span)} AND ({source.rejection}) IS NOT NULL"
        )

    def rejected_rows(
        self, dated: Iterable[RowSource], span: TimeRange, undated: Iterable[RowSource], home_of_undated: datetime
    ) -> str:
        """The rejected rows of `dated` in `span`, with the columns of `REJECTED_ROWS`; empty where nothing is asked.

        Beside them the rows of `undated` without a usable time, all of which are rejected, in the window of
        `home_of_undated`.
        """
        home = self._window(f"{_literal(home_of_undated)}::timestamptz")
        parts = [
            f"{self._rejected(source, self._window(source.moment))}"
            f" WHERE {_within(source.time, span)} AND ({source.rejection}) IS NOT NULL"
            for source in dated
        ] + [
            f"{self._rejected(source, home)} WHERE {source.time} IS NULL OR NOT ({_within(source.time, USABLE_TIMES)})"
            for source in undated
        ]
        return " UNION ALL ".join(parts)

    def rows_by_id(self, table: str, named_by: str, schema: pa.Schema, texts: str = "$1") -> str:
        """The rows of `table` (jobs or profiles) whose ids are among the bound `texts`, as bids have them in `named_by`.

        Beside the columns of `schema` it gives `at`: which of the texts it was, counted from one.
        """
        return (
            f"SELECT {self._select('n', table, schema)}, w.at FROM unnest({texts}::text[]) WITH ORDINALITY w(id, at)"
            f" JOIN {table} n ON {self._is_text(table, named_by)}"
        )

    def _is_text(self, table: str, named_by: str) -> str:
        """Whether the id of `n` is the text `w.id`; the id is cast only where there is no other way, for its index's sake."""
        kin = _kin(self._columns[table]["id"])
        if kin == "text":
            return "n.id = w.id"
        if kin in _CASTS and kin == _kin(self._columns["bids"][named_by]):
            return f"n.id = w.id::{_CASTS[kin]}"
        return "n.id::text = w.id"

    def bids_of_profiles(self) -> str:
        """Valid bids of the profiles $1 (texts) submitted in [$2, $3): id, submitted_at, and the owner as $1 has it."""
        bids = self._recent_bids(self._is_owner("b.profile_id", self._columns["bids"]["profile_id"]))
        return self._owned(f"unnest($1::text[]) w(id) CROSS JOIN LATERAL {bids}")

    def bids_of_clients(self) -> str:
        """The same of the bids on all jobs of a client: the clients of the jobs $4, and those of $5 (texts).

        For a database where jobs have one.
        """
        of_jobs = f"SELECT n.client_id::text FROM unnest($4::text[]) w(id) JOIN jobs n ON {self._is_text('jobs', 'job_id')}"
        clients = f"({of_jobs} WHERE n.client_id IS NOT NULL UNION SELECT unnest($5::text[])) w(id)"
        is_owner = self._is_owner("j.client_id", self._columns["jobs"]["client_id"])
        jobs = f"(SELECT * FROM jobs j WHERE {is_owner} OFFSET 0) j"
        bids = self._recent_bids(self._same("b", "bids", "job_id", "j", "jobs", "id"))
        return self._owned(f"{clients} CROSS JOIN LATERAL {jobs} CROSS JOIN LATERAL {bids}")

    def outcomes_of(self, bids: str) -> str:
        """Valid outcomes of `bids`, a table as the two queries above give it: its columns as `b`, those of outcomes as `o`."""
        source = self.outcomes_of_flawless_bids
        same = self._same("o", "bid_outcomes", "bid_id", "b", "bids", "id")
        return f"{bids} b JOIN bid_outcomes o ON {same} WHERE {_is_valid(source)}"

    def result(self) -> str:
        """The result of the outcome `o`, a boolean."""
        return _result("o", self._columns["bid_outcomes"])

    def jobs_have_clients(self) -> bool:
        """Whether the database says whose a job is."""
        return "client_id" in self._columns["jobs"]

    def _recent_bids(self, condition: str) -> str:
        """Bids that meet a condition on the row before, submitted in [$2, $3).

        A plan made once, for any span, takes two bounds for a narrow one, and would read the recent bids of everybody. So
        OFFSET 0 fences the search of each owner, and the upper bound is put as no index knows it.
        """
        moment = self.bids.moment
        recent = f"{moment} >= $2::timestamptz AND {moment} + interval '0' < $3::timestamptz"
        return f"(SELECT * FROM bids b WHERE {condition} AND {recent} OFFSET 0) b"

    def _owned(self, owners_with_bids: str) -> str:
        profile = self._same("p", "profiles", "id", "b", "bids", "profile_id")
        return (
            f"SELECT b.id, b.submitted_at, w.id AS owner FROM {owners_with_bids}"
            f" LEFT JOIN profiles p ON {profile} WHERE {_is_valid(self.bids)}"
        )

    def _is_owner(self, owner: str, sql_type: str) -> str:
        """Whether an owner is the text `w.id`, which is cast where it can be, for the index's sake."""
        kin = _kin(sql_type)
        if kin == "text":
            return f"{owner} = w.id"
        return f"{owner} = w.id::{_CASTS[kin]}" if kin in _CASTS else f"{owner}::text = w.id"

    def kin_of_id(self, table: str) -> str:
        """What an id of the table looks like: `text`, `integer`, `uuid` or another SQL type."""
        return self.kin_of(table, "id")

    def kin_of(self, table: str, column: str) -> str:
        """The same of any column."""
        return _kin(self._columns[table][column])

    def hourly_counts(self, source: RowSource, span: TimeRange) -> str:
        """Rows of `span` per hour, valid or not."""
        return (
            f"SELECT {_bin('1 hour', source.moment)} AS bucket, count(*) AS rows FROM {source.table} {source.row}"
            f" WHERE {_within(source.time, span)} GROUP BY 1"
        )

    def ends(self, source: RowSource) -> str:
        """The first and the last usable time of a table."""
        return (
            f"SELECT min({source.moment}) AS first, max({source.moment}) AS last FROM {source.table} {source.row}"
            f" WHERE {_within(source.time, USABLE_TIMES)}"
        )

    def oldest_valid(self, source: RowSource) -> str:
        """The time of the oldest valid row; an index on the time serves it."""
        return (
            f"SELECT {source.moment} AS oldest FROM {source.joined} WHERE {_within(source.time, USABLE_TIMES)}"
            f" AND {_is_valid(source)} ORDER BY {source.time} LIMIT 1"
        )

    def rows_outside(self, source: RowSource, span: TimeRange) -> str:
        """How many rows with a usable time lie before `span`, and how many after it."""
        before, after = f"{source.time} < {_literal(span.start)}", f"{source.time} >= {_literal(span.end)}"
        return (
            f"SELECT count(*) FILTER (WHERE {before}) AS before, count(*) FILTER (WHERE {after}) AS after"
            f" FROM {source.table} {source.row} WHERE ({before} OR {after}) AND {_within(source.time, USABLE_TIMES)}"
        )

    def _window(self, moment: str) -> str:
        return _bin(f"{self._cadence.length.days} days", moment)

    @staticmethod
    def _rejected(source: RowSource, window: str) -> str:
        return f"""SELECT {window} AS window, '{source.table}' AS "table", {source.row}.id::text AS id,
            {source.rejection} AS reason FROM {source.joined}"""

    def _select(self, alias: str, table: str, schema: pa.Schema) -> str:
        types = self._columns[table]
        return ", ".join(f"{_value(alias, table, field, types)} AS {field.name}" for field in schema)


def _value(alias: str, table: str, field: pa.Field, types: ColumnTypes) -> str:
    """A contract column as the Arrow type of `field` wants it; lists still as JSON text."""
    column = f"{alias}.{field.name}"
    if field.type == contract.TIME:
        if field.name not in types:
            return "NULL::timestamptz"
        _require_type(table, field.name, types, _MOMENTS)
        moment = _moment(alias, field.name, types)
        return f"CASE WHEN {_unusable(moment)} THEN NULL ELSE {moment} END" if field.nullable else moment
    if field.type == pa.bool_():
        return _result(alias, types)
    if field.type == pa.float64():
        return _amount(column, types.get(field.name))
    if field.name not in types:
        return "NULL::text"
    return f"to_json({column})::text" if types[field.name].endswith("[]") else f"{column}::text"


def micros(moment: str) -> str:
    """A time as whole microseconds since 1970."""
    return f"(extract(epoch FROM {moment}) * 1000000)::bigint"


def _amount(column: str, sql_type: str | None) -> str:
    if sql_type is None:
        return "NULL::float8"
    if sql_type == "numeric":  # which holds smaller and larger numbers than a float8 can, and then the cast fails
        return f"CASE WHEN {column} < 1e-300 THEN 0 WHEN {column} <= {_LARGEST_AMOUNT} THEN {column}::float8 END"
    return f"{column}::float8"


def _result(alias: str, types: ColumnTypes) -> str:
    _require_type("bid_outcomes", "is_success", types, _INTEGERS | {"boolean"})
    column = f"{alias}.is_success"
    return column if types["is_success"] == "boolean" else f"CASE {column} WHEN 1 THEN true WHEN 0 THEN false END"


def _moment(alias: str, name: str, types: ColumnTypes) -> str:
    """A time as `timestamptz`; a naive one is UTC."""
    column = f"{alias}.{name}"
    return column if types[name] == "timestamp with time zone" else f"({column}::timestamp AT TIME ZONE 'UTC')"


def _time(alias: str, name: str, types: ColumnTypes) -> str:
    table = "bids" if alias == "b" else "bid_outcomes"
    _require_type(table, name, types, _MOMENTS)
    return _moment(alias, name, types) if types[name] == "date" else f"{alias}.{name}"


def _require_type(table: str, name: str, types: ColumnTypes, allowed: set[str]) -> None:
    if types[name] not in allowed:
        raise ContractError(
            f"column {table}.{name} is of type {types[name]}; the contract wants {' or '.join(sorted(allowed))}"
        )


def _kin(sql_type: str) -> str:
    """Types of equal kin can be compared with each other."""
    return "text" if sql_type in _TEXTS else "integer" if sql_type in _INTEGERS else sql_type


def _within(time: str, span: TimeRange) -> str:
    return f"{time} >= {_literal(span.start)} AND {time} < {_literal(span.end)}"


def _is_valid(source: RowSource) -> str:
    """True for a valid row. The planner takes `CASE IS NULL` to be rare, a boolean CASE to be even: that plans better."""
    return f"CASE WHEN ({source.rejection}) IS NULL THEN true END"


def _unusable(moment: str) -> str:
    return f"({_within(moment, USABLE_TIMES)}) IS NOT TRUE"


def _literal(moment: datetime) -> str:
    """An untyped literal in UTC: PostgreSQL gives it the type of what it is compared with, with or without a zone."""
    return f"'{moment.astimezone(UTC).isoformat()}'"


def _bin(length: str, moment: str) -> str:
    return f"date_bin('{length}', {moment}, {_literal(MONDAY)}::timestamptz)"


def _or_else(words: str, moment: str, otherwise: str) -> str:
    return f"coalesce('{words} ' || {_words(moment)}, '{otherwise}')"


def _words(moment: str) -> str:
    return f"(to_json({moment}) #>> '{{}}')"
