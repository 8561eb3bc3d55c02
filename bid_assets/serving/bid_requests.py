"""Requests to the prediction service as plain data: a bid, its job, precomputed features. Their JSON is in `schemas`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa

from bid_assets.app_db.contract import TEXT, TIME
from bid_assets.app_db.importing.parsing import parse_column, type_description
from bid_assets.common.windows import as_utc, microseconds_since_epoch

_ISO_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:[0-5]\d)?", re.ASCII)
"""The ISO 8601 texts that `datetime.fromisoformat` parses as `bid-assets import` does, in a microsecond."""


@dataclass(frozen=True)
class JobDetails:
    """A job that the application's database does not have (yet)."""

    title: str | None = None
    description: str | None = None
    category: str | None = None
    required_skills: list[str] | None = None
    posted_at: datetime | None = None
    client_id: str | None = None
    """The job's client, whose history then counts."""

    def to_raw_row(self) -> dict[str, Any]:
        """A row of `raw_jobs` without id and window; times in microseconds since 1970."""
        return {**vars(self), "posted_at": None if self.posted_at is None else microseconds_since_epoch(as_utc(self.posted_at))}


@dataclass(frozen=True)
class BidRequest:
    """A bid to predict."""

    profile_id: str
    job_id: str | None = None
    job: JobDetails | None = None
    """In place of what the database knows of `job_id`."""
    bid_text: str | None = None
    amount: float | None = None
    settings: Mapping[str, Any] | str | None = None
    """As the application stores them in `bid_settings_snapshot`: budget, duration_weeks, is_fixed_price; or that JSON text."""
    external_signals: Mapping[str, Any] | str | None = None
    """As the application stores them in `external_signals_snapshot`."""
    at: datetime | None = None
    """When it would be submitted, aware; None: now."""
    bid_id: str | None = None
    """The application's own id, kept in the log so that the outcome can be joined later."""


def json_text(value: Mapping[str, Any] | str | None) -> str | None:
    """The text of a JSON column, as the application's database would hold it."""
    if value is None or isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # an integer of over 64 bits, or half of a surrogate pair: rubbish, as the database may have it too
        return json.dumps(value)


def parse_timestamp(value: Any) -> datetime:
    """Parse a timestamp as `bid-assets import` does: ISO 8601 text, UTC where it has no zone. Raises `ValueError`."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        with suppress(UnicodeEncodeError, OverflowError):  # half of a surrogate pair; a day beyond Python's
            if _ISO_TIMESTAMP.fullmatch(value):
                return as_utc(datetime.fromisoformat(value))
            timestamp: datetime | None = parse_column(pa.chunked_array([pa.array([value], TEXT)]), TIME)[0].as_py()
            if timestamp is not None:
                return timestamp
    raise ValueError(f"must be {type_description(TEXT, TIME)}")


@dataclass(frozen=True)
class PrecomputedFeatures:
    """Features that the caller has computed, by column of the training dataset; what is absent is missing."""

    features: Mapping[str, Any]
    profile_id: str | None = None
    """Chooses the model where a canary runs, and is kept in the log, like the ids below."""
    job_id: str | None = None
    bid_id: str | None = None
