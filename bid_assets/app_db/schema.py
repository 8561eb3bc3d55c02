"""The table contract as SQLAlchemy sees it: what `create_tables` makes where the application has no tables yet.

These are the tables of the embedded database, of the simulated marketplace and of the tests. They hold only what the
contract needs. They are loose on purpose: beside the primary keys nothing is enforced, because the application may be
as loose, and it is the reader that validates rows. JSON columns are text: they take any text, unchanged.
How the tables look as Arrow is in `contract.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

METADATA = sa.MetaData()

TIMESTAMP = sa.TIMESTAMP(timezone=True)

PROFILES = sa.Table(
    "profiles",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("profile_type", sa.Text, comment="personal or agency"),
    sa.Column("experience_level", sa.Text, comment="entry, intermediate or expert"),
    sa.Column("skills", sa.Text, comment="JSON list of text"),
    sa.Column("created_at", TIMESTAMP),
    sa.Column("updated_at", TIMESTAMP),
)

JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("category", sa.Text),
    sa.Column("required_skills", sa.Text, comment="JSON list of text"),
    sa.Column("client_id", sa.Text),
    sa.Column("posted_at", TIMESTAMP),
    sa.Index("jobs_client_id", "client_id"),
)

BIDS = sa.Table(
    "bids",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("profile_id", sa.Text),
    sa.Column("job_id", sa.Text),
    sa.Column("amount", sa.Double),
    sa.Column("generated_bid_text", sa.Text),
    sa.Column("status", sa.Text),
    sa.Column("prompt_template_id", sa.Text),
    sa.Column("bid_settings_snapshot", sa.Text, comment="JSON: budget, duration_weeks, is_fixed_price"),
    sa.Column("external_signals_snapshot", sa.Text, comment="JSON"),
    sa.Column("submitted_at", TIMESTAMP),
    sa.Index("bids_submitted_at", "submitted_at", postgresql_include=["id", "profile_id", "job_id", "amount"]),
    sa.Index("bids_profile_id_submitted_at", "profile_id", "submitted_at"),
    sa.Index("bids_job_id_submitted_at", "job_id", "submitted_at"),
)

BID_OUTCOMES = sa.Table(
    "bid_outcomes",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("bid_id", sa.Text),
    sa.Column("is_success", sa.Boolean),
    sa.Column("outcome_timestamp", TIMESTAMP),
    sa.Column("details", sa.Text),
    sa.Index("bid_outcomes_outcome_timestamp", "outcome_timestamp"),
    sa.Index("bid_outcomes_bid_id", "bid_id"),
)


def create_tables(engine: sa.Engine) -> None:
    """Create the application's tables that are not there yet; those that are there stay as they are."""
    METADATA.create_all(engine)


def creation(tables: Iterable[str]) -> list[str]:
    """The statements that create these tables and their indexes."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    chosen = [METADATA.tables[table] for table in tables]
    elements = [CreateTable(table) for table in chosen] + [CreateIndex(index) for table in chosen for index in table.indexes]
    return [str(element.compile(dialect=dialect)) for element in elements]
