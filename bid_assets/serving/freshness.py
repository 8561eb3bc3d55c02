"""What was missing when the features of a bid were computed, in words, and how fresh its profile's history was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bid_assets.app_db.point_lookup import LookupResult
from bid_assets.common.windows import datetime_from_microseconds
from bid_assets.features.family import Role
from bid_assets.features.registry import features_with_role
from bid_assets.serving.bid_requests import BidRequest


def missing_inputs(
    bids: Sequence[BidRequest], at: Sequence[int], lookup: LookupResult, features: Iterable[Mapping[str, Any]]
) -> list[list[str]]:
    """What was missing, for each bid; `features` are those of all families that need no encoder, at least."""
    past_bids, settings = features_with_role(Role.PAST_BIDS), features_with_role(Role.BID_SETTING)
    result = []
    for bid, submitted_at, row in zip(bids, at, features, strict=True):
        missing = []
        profile = lookup.profiles.get(bid.profile_id)
        if profile is None:
            missing.append("profile unknown")
        elif profile["updated_at"] is not None and profile["updated_at"] >= submitted_at:
            missing.append("profile changed since")
        if bid.job is None and bid.job_id not in lookup.jobs:
            missing.append("no job" if bid.job_id is None else "job unknown")
        if past_bids and not any(row[name] for name in past_bids):
            missing.append("no history")
        if not (bid.bid_text or "").strip():
            missing.append("no bid text")
        if bid.amount is None:
            missing.append("no amount")
        if bid.settings is None:
            missing.append("no settings")
        else:
            missing += [f"no {name}" for name in settings if row[name] is None]
        if bid.external_signals is None:
            missing.append("no external signals")
        result.append(missing)
    return result


def newest_outcomes(bids: Sequence[BidRequest], at: Sequence[int], lookup: LookupResult) -> list[datetime | None]:
    """The newest outcome of each bid's profile that was known before the bid; None where there is none."""
    known_at: dict[str, list[int]] = {}
    history = lookup.profile_history
    for bid, moment in zip(history.outcome_bid_index, history.known_at, strict=True):
        known_at.setdefault(history.owners[bid], []).append(moment)
    newest = [
        max((moment for moment in known_at.get(bid.profile_id, ()) if moment < submitted_at), default=None)
        for bid, submitted_at in zip(bids, at, strict=True)
    ]
    return [None if moment is None else datetime_from_microseconds(moment) for moment in newest]
