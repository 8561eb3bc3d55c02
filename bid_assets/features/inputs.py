"""Inputs of features by row: one bid and what it can see. Plain values, no Arrow; times are microseconds since 1970.

On a few rows, each step over columns costs more than the computation itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

RawRow = Mapping[str, Any]
"""A row of a raw table, by column."""

FeatureRow = Mapping[str, Any]
"""The features of one bid, by name; None is missing."""

Vector = npt.NDArray[np.float32]
"""An embedding, shape (dimension,)."""


@dataclass(frozen=True, slots=True)
class BidHistory:
    """The bids of one owner (a profile, or a client on whose jobs they are) and their outcomes, in columns."""

    submitted_at: list[int] = field(default_factory=list)
    """Of each bid."""
    outcome_bid_index: list[int] = field(default_factory=list)
    """Of each outcome: the index of its bid in `submitted_at`."""
    outcome_ids: list[str] = field(default_factory=list)
    is_success: list[bool] = field(default_factory=list)
    """Of each outcome."""
    known_at: list[int] = field(default_factory=list)
    """Of each outcome: when it became known."""


NO_HISTORY = BidHistory()


@dataclass(frozen=True, slots=True)
class BidContext:
    """A bid submitted `at`, and what it can see. Whatever in the histories is of that time or later does not count."""

    at: int
    amount: float | None = None
    text: str | None = None
    settings: str | None = None
    """A JSON text, valid or not."""
    signals: str | None = None
    """The external signals as a JSON text, valid or not."""
    profile: RawRow | None = None
    job: RawRow | None = None
    profile_history: BidHistory = NO_HISTORY
    client_history: BidHistory | None = None
    """None: the job, or its client, is not known."""
