"""SQL of single values: how a time, an amount, a result or a list of a table becomes what the contract wants.

A value that cannot be what it should is NULL, whatever it is: an expression here fails for no row. Which rows are read, and
which are rejected, is in `queries.py`; how ids are compared in `sql_ids.py`. Nothing here runs a query.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from bid_assets.app_db import contract
from bid_assets.app_db.contract import ContractError
from bid_assets.app_db.introspection import Columns
from bid_assets.app_db.json_values import READABLE
from bid_assets.common.windows import MONDAY, Cadence, TimeRange

USABLE_TIMES = TimeRange(MONDAY, Cadence.WEEKLY.floor(datetime.max.replace(tzinfo=UTC)))
"""Times that a window can hold. Others (infinite, before 1970, beyond the year 9999) are as good as none."""

LARGEST_AMOUNT = "1.7976931348623157e308"  # of a float8; NaN and infinity are greater in PostgreSQL's order
_INTEGERS = {"smallint", "integer", "bigint"}
_AMOUNTS = _INTEGERS | {"real", "double precision", "numeric"}
_UTF8 = (  # the table of well-formed byte sequences of the Unicode standard (3-7), to which every byte is a character
    r"^(?:[\x01-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    r"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*$"
).replace("\\", r"\\")
_MOMENTS = {"timestamp with time zone", "timestamp without time zone", "date"}


def value(alias: str, table: str, field: pa.Field, columns: Columns) -> str:
    """A contract column as the Arrow type of `field` wants it; lists still as JSON text."""
    if field.type == contract.TIME:
        if field.name not in columns:
            return "NULL::timestamptz"
        at = moment(alias, table, field.name, columns)
        return f"CASE WHEN {unusable(at)} THEN NULL ELSE {at} END" if field.nullable else at
    if field.type == pa.bool_():
        return result(alias, columns)
    if field.type == pa.float64():
        return _amount(f"{alias}.{field.name}", columns)
    if field.name not in columns:
        return "NULL::text"
    column = f"{alias}.{field.name}"
    text = f"to_json({column})::text" if columns[field.name].type.endswith("[]") else f"{column}::text"
    return text if columns[field.name].has_encoding else f"CASE WHEN {is_utf8(text)} THEN {text} END"


def is_utf8(text: str) -> str:
    """Whether a text is UTF-8, in a database of the encoding SQL_ASCII; NULL for NULL."""
    return f"""({text}) COLLATE "C" ~ E'{_UTF8}'"""


def result(alias: str, columns: Columns) -> str:
    """The result of an outcome, a boolean."""
    require_type("bid_outcomes", "is_success", columns, _INTEGERS | {"boolean"})
    column = f"{alias}.is_success"
    return column if columns["is_success"].type == "boolean" else f"CASE {column} WHEN 1 THEN true WHEN 0 THEN false END"


def moment(alias: str, table: str, name: str, columns: Columns) -> str:
    """A time as `timestamptz`; a naive one is UTC."""
    require_type(table, name, columns, _MOMENTS)
    column, sql_type = f"{alias}.{name}", columns[name].type
    if sql_type == "date":  # which goes on for millions of years, where a timestamp has ended and the cast fails
        column = f"CASE WHEN {column} > '9999-12-31' THEN 'infinity' ELSE {column} END"
    return column if sql_type == "timestamp with time zone" else f"(({column})::timestamp AT TIME ZONE 'UTC')"


def indexed_time(alias: str, table: str, name: str, columns: Columns) -> str:
    """The same, bare where it can be compared with a time of a window, so that an index on it serves."""
    return moment(alias, table, name, columns) if columns[name].type == "date" else f"{alias}.{name}"


def require_amount(columns: Columns) -> None:
    """`ContractError` where the amounts of bids are no numbers."""
    require_type("bids", "amount", columns, _AMOUNTS)


def require_type(table: str, name: str, columns: Columns, allowed: set[str]) -> None:
    """`ContractError` where a column is of another type than these."""
    if columns[name].type not in allowed:
        raise ContractError(
            f"column {table}.{name} is of type {columns[name].type}; the contract wants {' or '.join(sorted(allowed))}"
        )


def micros(at: str) -> str:
    """A time as whole microseconds since 1970."""
    return f"(extract(epoch FROM {at}) * 1000000)::bigint"


def in_range(time: str, span: TimeRange) -> str:
    """Whether a time lies in a range."""
    return f"{time} >= {literal(span.start)} AND {time} < {literal(span.end)}"


def unusable(at: str) -> str:
    """Whether a time is one that no window can hold, or none."""
    return f"({in_range(at, USABLE_TIMES)}) IS NOT TRUE"


def literal(at: datetime) -> str:
    """An untyped literal in UTC: PostgreSQL gives it the type of what it is compared with, with or without a zone."""
    return f"'{at.astimezone(UTC).isoformat()}'"


def time_bin(length: str, at: str) -> str:
    """The start of the bin of this length, counted from `MONDAY`, that a time lies in."""
    return f"date_bin('{length}', {at}, {literal(MONDAY)}::timestamptz)"


def time_reason(alias: str, table: str, name: str, columns: Columns) -> str:
    """Why `value` gives NULL for a time: `READABLE` where it does not, NULL where there is none (see `readability.py`)."""
    if name not in columns:
        return "NULL::text"
    at = moment(alias, table, name, columns)
    return (
        f"CASE WHEN {in_range(at, USABLE_TIMES)} THEN '{READABLE}' WHEN NOT isfinite({alias}.{name}) THEN 'an infinite time'"
        f" WHEN {at} < {literal(USABLE_TIMES.start)} THEN 'a time before {USABLE_TIMES.start:%Y-%m-%d}'"
        f" WHEN {alias}.{name} IS NOT NULL THEN 'a time beyond {USABLE_TIMES.end:%Y-%m-%d}' END"
    )


def text_reason(text: str) -> str:
    """As `time_reason`, for a text of a database of the encoding SQL_ASCII."""
    return f"CASE {is_utf8(text)} WHEN true THEN '{READABLE}' WHEN false THEN 'text that is not UTF-8' END"


def as_text(at: str) -> str:
    """A time, a naive one or a date as text, even one that is infinite or before Christ."""
    return f"(to_json({at}) #>> '{{}}')"


def _amount(column: str, columns: Columns) -> str:
    if "amount" not in columns:
        return "NULL::float8"
    if columns["amount"].type == "numeric":  # which holds smaller and larger numbers than a float8 can, and then the cast fails
        return f"CASE WHEN {column} < 1e-300 THEN 0 WHEN {column} <= {LARGEST_AMOUNT} THEN {column}::float8 END"
    return f"{column}::float8"
