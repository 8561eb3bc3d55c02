"""What was not there when features were made, in words; and how fresh a profile's history was. Both beside every answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bid_assets.app_db.point_lookup import LookupResult
from bid_assets.common.windows import moment_of
from bid_assets.serving.bid_requests import BidRequest

TERMS = ("budget", "duration_weeks", "is_fixed_price")
"""Features that the bid's settings state."""


def missing(
    bids: Sequence[BidRequest], at: Sequence[int], found: LookupResult, features: Iterable[Mapping[str, Any]]
) -> list[list[str]]:
    """Of each bid what was not there; `features` has at least `bids_90d` and the `TERMS` of each."""
    told = []
    for bid, moment, row in zip(bids, at, features, strict=True):
        words = []
        profile = found.profiles.get(bid.profile_id)
        if profile is None:
            words.append("profile unknown")
        elif profile["updated_at"] is not None and profile["updated_at"] >= moment:
            words.append("profile changed since")
        if bid.job is None and bid.job_id not in found.jobs:
            words.append("no job" if bid.job_id is None else "job unknown")
        if not row["bids_90d"]:
            words.append("no history")
        if not (bid.bid_text or "").strip():
            words.append("no bid text")
        if bid.amount is None:
            words.append("no amount")
        words += ["no settings"] if bid.settings is None else [f"no {term}" for term in TERMS if row[term] is None]
        if bid.external_signals is None:
            words.append("no external signals")
        told.append(words)
    return told


def newest_outcomes(bids: Sequence[BidRequest], at: Sequence[int], found: LookupResult) -> list[datetime | None]:
    """The newest outcome of each bid's profile known before the bid."""
    known: dict[str, list[int]] = {}
    record = found.profile_history
    for bid, moment in zip(record.outcome_bid_index, record.known_at, strict=True):
        known.setdefault(record.owners[bid], []).append(moment)
    newest = [
        max((moment for moment in known.get(bid.profile_id, ()) if moment < asked), default=None)
        for bid, asked in zip(bids, at, strict=True)
    ]
    return [None if moment is None else moment_of(moment) for moment in newest]
