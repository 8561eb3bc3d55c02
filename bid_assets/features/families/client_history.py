"""Feature family: the client's record at the moment of a bid: the features of `profile_history`, grouped by client.

All bids of every profile on every job of the client count, the bidder's own included. All features are missing where
the bid's job, or the job's client, is not known.
"""

from __future__ import annotations

from dataclasses import replace

from bid_assets.features.families import profile_history
from bid_assets.features.family import FeatureFamily
from bid_assets.features.history_definition import HistoryDefinition

PREFIX = "client_"

FEATURES = tuple(
    replace(
        feature,
        name=PREFIX + feature.name,
        meaning=feature.meaning.replace("the profile's bids", "bids on the client's jobs"),
        role=None,
    )
    for feature in profile_history.FEATURES
)

FAMILY = FeatureFamily(
    name="client_historical_features",
    description="The client's record as it was known when the bid was made: bids on its jobs, outcomes, success rates.",
    key="bid_id",
    reads=("raw_bids", "raw_bid_outcomes", "raw_jobs"),
    features=FEATURES,
    definition=HistoryDefinition(profile_history.history_features, "client"),
    lookback_days=profile_history.LOOKBACK_DAYS,
    code_version=profile_history.FAMILY.code_version,
)
