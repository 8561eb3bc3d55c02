"""Inputs of the feature families as plain values, built from the result of a point lookup.

Bids of one batch do not see each other: the histories hold what the database has, none of the other bids of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from bid_assets.app_db.point_lookup import HistoryColumns, LookupResult
from bid_assets.features.inputs import NO_HISTORY, BidContext, BidHistory
from bid_assets.serving.bid_requests import BidRequest, json_text


def build_contexts(bids: Sequence[BidRequest], at: Sequence[int], lookup: LookupResult) -> list[BidContext]:
    """The context of each bid, submitted `at` (microseconds since 1970): profile, job, histories of profile and client."""
    by_profile, by_client = _by_owner(lookup.profile_history), _by_owner(lookup.client_history)
    contexts = []
    for bid, submitted_at in zip(bids, at, strict=True):
        job = lookup.jobs.get(bid.job_id or "") if bid.job is None else bid.job.to_raw_row()
        client = None if job is None else job["client_id"]
        contexts.append(
            BidContext(
                at=submitted_at,
                amount=bid.amount,
                text=bid.bid_text,
                settings=json_text(bid.settings),
                signals=json_text(bid.external_signals),
                profile=lookup.profiles.get(bid.profile_id),
                job=job,
                profile_history=by_profile.get(bid.profile_id, NO_HISTORY),
                client_history=None if client is None else by_client.get(client, NO_HISTORY),
            )
        )
    return contexts


def _by_owner(history: HistoryColumns) -> dict[str, BidHistory]:
    if len(owners := set(history.owners)) == 1:
        columns = (history.submitted_at, history.outcome_bid_index, history.outcome_ids, history.is_success, history.known_at)
        return {owner: BidHistory(*columns) for owner in owners}
    histories = {owner: BidHistory() for owner in owners}
    index = []  # of each bid among those of its owner
    for owner, submitted_at in zip(history.owners, history.submitted_at, strict=True):
        submitted = histories[owner].submitted_at
        index.append(len(submitted))
        submitted.append(submitted_at)
    for bid, outcome_id, is_success, known_at in zip(
        history.outcome_bid_index, history.outcome_ids, history.is_success, history.known_at, strict=True
    ):
        own = histories[history.owners[bid]]
        own.outcome_bid_index.append(index[bid])
        own.outcome_ids.append(outcome_id)
        own.is_success.append(is_success)
        own.known_at.append(known_at)
    return histories
