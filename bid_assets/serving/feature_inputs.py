"""Bids to be as the feature families want a few of them: plain values, put together from what a look-up has found.

Bids asked about together do not see each other: the records hold what the database has, none of the others asked about.
"""

from __future__ import annotations

from collections.abc import Sequence

from bid_assets.app_db.point_lookup import HistoryColumns, LookupResult
from bid_assets.features.inputs import OneBid, Record
from bid_assets.serving.bid_requests import BidRequest, json_text

_NOTHING = Record()


def plain_bids(bids: Sequence[BidRequest], at: Sequence[int], found: LookupResult) -> list[OneBid]:
    """The bids, each submitted at its time (microseconds), with its profile, its job, and the records of profile and client."""
    of_profiles, of_clients = _by_owner(found.profile_history), _by_owner(found.client_history)
    made = []
    for bid, moment in zip(bids, at, strict=True):
        job = found.jobs.get(bid.job_id or "") if bid.job is None else bid.job.to_raw_row()
        client = None if job is None else job["client_id"]
        made.append(
            OneBid(
                at=moment,
                amount=bid.amount,
                text=bid.bid_text,
                settings=json_text(bid.settings),
                signals=json_text(bid.external_signals),
                profile=found.profiles.get(bid.profile_id),
                job=job,
                profile_record=of_profiles.get(bid.profile_id, _NOTHING),
                client_record=None if client is None else of_clients.get(client, _NOTHING),
            )
        )
    return made


def _by_owner(records: HistoryColumns) -> dict[str, Record]:
    if len(owners := set(records.owners)) == 1:
        columns = (records.submitted_at, records.outcome_bid_index, records.outcome_ids, records.is_success, records.known_at)
        return {owner: Record(*columns) for owner in owners}
    found = {owner: Record() for owner in owners}
    place = []  # of each bid among those of its owner
    for owner, submitted in zip(records.owners, records.submitted_at, strict=True):
        theirs = found[owner].submitted
        place.append(len(theirs))
        theirs.append(submitted)
    for bid, name, success, known in zip(
        records.outcome_bid_index, records.outcome_ids, records.is_success, records.known_at, strict=True
    ):
        theirs_too = found[records.owners[bid]]
        theirs_too.bids.append(place[bid])
        theirs_too.outcomes.append(name)
        theirs_too.successes.append(success)
        theirs_too.known.append(known)
    return found
