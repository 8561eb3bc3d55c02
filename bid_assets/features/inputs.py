"""One bid as plain values, with everything that is known of it: what a service asks a family about (`FeatureFamily.of_few`).

Columns are for the hundred thousands of rows of a training: each step over them costs microseconds, however few the rows are.
What a family says of a bid is the same either way, bit for bit; a law of the tests. Times are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Row = Mapping[str, Any]
"""A raw row by the columns of its schema."""

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Record:
    """Some bids of one owner (a profile, or a client whose jobs they are on), and their outcomes, column by column."""

    submitted: list[int] = field(default_factory=list)
    """When each bid was made."""
    bids: list[int] = field(default_factory=list)
    """Which bid each outcome is of, counted from 0."""
    outcomes: list[str] = field(default_factory=list)
    """The outcomes' ids."""
    successes: list[bool] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    """When each outcome became known."""


@dataclass(frozen=True, slots=True)
class OneBid:
    """A bid submitted `at`; bids and outcomes of that time and later in the records are nothing that it knows of."""

    at: int
    amount: float | None
    text: str | None
    settings: str | None
    """JSON, or rubbish."""
    signals: str | None
    """The external signals as JSON, or rubbish."""
    profile: Row | None
    job: Row | None
    profile_record: Record
    client_record: Record | None
    """None: whose job it is, is not known."""
