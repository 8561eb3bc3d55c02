"""The table contract with the application: the Arrow schemas that its tables have once they are read.

Which rows are valid is in `row_validation.py`, how they are read in `snapshot_reader.py`; the same tables for SQLAlchemy
are in `schema.py`. All times are UTC microseconds, all ids text.
"""

from __future__ import annotations

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
TEXTS = pa.list_(pa.string())

REQUIRED_COLUMNS = {
    "profiles": ("id",),
    "jobs": ("id",),
    "bids": ("id", "profile_id", "job_id", "submitted_at"),
    "bid_outcomes": ("id", "bid_id", "is_success", "outcome_timestamp"),
}
"""The application's tables and the columns that they cannot do without; every other column may be missing."""

RAW_BIDS = pa.schema(
    [
        pa.field("id", TEXT, nullable=False),
        pa.field("profile_id", TEXT, nullable=False),
        pa.field("job_id", TEXT, nullable=False),
        pa.field("amount", pa.float64()),
        pa.field("generated_bid_text", TEXT),
        pa.field(
            "status", TEXT, metadata={b"volatile": b"true"}
        ),  # says how the bid ended: no feature, and not part of the content
        pa.field("prompt_template_id", TEXT),
        pa.field("bid_settings_snapshot", TEXT),  # JSON text as stored: budget, duration_weeks, is_fixed_price
        pa.field("external_signals_snapshot", TEXT),  # JSON text as stored
        pa.field("submitted_at", TIME, nullable=False),
    ]
)
"""`raw_bids`: one row per bid, by `submitted_at`."""

RAW_BID_OUTCOMES = pa.schema(
    [
        pa.field("id", TEXT, nullable=False),
        pa.field("bid_id", TEXT, nullable=False),
        pa.field("is_success", pa.bool_(), nullable=False),
        pa.field("outcome_timestamp", TIME, nullable=False),
        pa.field("details", TEXT),
    ]
)
"""`raw_bid_outcomes`: one row per outcome, corrections included, by `outcome_timestamp`."""

RAW_JOBS = pa.schema(
    [
        pa.field("window", TIME, nullable=False),  # start of the window whose bids name the job
        pa.field("id", TEXT, nullable=False),
        pa.field("title", TEXT),
        pa.field("description", TEXT),
        pa.field("category", TEXT),
        pa.field("required_skills", TEXTS),
        pa.field("client_id", TEXT),
        pa.field("posted_at", TIME),
    ]
)
"""`raw_jobs`: one row per window and job that its bids name."""

RAW_PROFILES = pa.schema(
    [
        pa.field("window", TIME, nullable=False),
        pa.field("id", TEXT, nullable=False),
        pa.field("name", TEXT),
        pa.field("profile_type", TEXT),
        pa.field("experience_level", TEXT),
        pa.field("skills", TEXTS),
        pa.field("created_at", TIME),
        pa.field("updated_at", TIME),
    ]
)
"""`raw_profiles`: one row per window and profile that its bids name."""

REJECTED_ROWS = pa.schema(
    [
        pa.field("window", TIME, nullable=False),
        pa.field("table", TEXT, nullable=False),
        pa.field("id", TEXT),
        pa.field("reason", TEXT, nullable=False),
    ]
)
"""`rejected_rows`: what was set aside in a window, and why."""

VOLATILE_COLUMNS = frozenset(field.name for field in RAW_BIDS if field.metadata)
"""Columns that are kept as they were read and do not make a version: the application moves them with every outcome."""

OUT_OF_RANGE = "outside the windows of all valid rows"
"""Part of the reason of a rejected row whose own time lies outside the windows of all valid rows."""

UNDATED_REASON = f"^(has no (submission|outcome) time|(submission|outcome) time is )|{OUT_OF_RANGE}"
"""A regular expression for the reasons of `rejected_rows` whose window is a stand-in, because the row has no usable time."""

STREAMS = {
    "raw_bids": RAW_BIDS,
    "raw_bid_outcomes": RAW_BID_OUTCOMES,
    "raw_jobs": RAW_JOBS,
    "raw_profiles": RAW_PROFILES,
    "rejected_rows": REJECTED_ROWS,
}
"""Everything that the reader gives, by name."""


class ContractError(Exception):
    """The application's database does not have the tables, columns or column types that the contract asks for."""
