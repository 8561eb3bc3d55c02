"""Feature family: the terms of the bid: time of submission, budget, amount, duration, fixed price, text length."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache

import pyarrow as pa

from bid_assets.app_db.json_values import read_number, read_object, read_truth_value
from bid_assets.common.windows import datetime_from_microseconds
from bid_assets.features.family import Feature, FeatureFamily, Role
from bid_assets.features.inputs import BidContext
from bid_assets.features.mapping import RowDefinition

_SETTINGS = "bid_settings_snapshot"
_READERS: dict[str, Callable[[object], tuple[float | bool | None, str | None]]] = {
    "budget": read_number,
    "duration_weeks": read_number,
    "is_fixed_price": read_truth_value,
}
_WORD = re.compile(r"[^\t\n\f\r ]+")  # white space of ASCII only

FEATURES = (
    Feature("hour", pa.int8(), "hour of submission, UTC, 0 to 23"),
    Feature("weekday", pa.int8(), "day of the week, 0 = Monday"),
    Feature("month", pa.int8(), "month, 1 to 12"),
    Feature("is_weekend", pa.bool_(), "submitted on Saturday or Sunday"),
    Feature("budget", pa.float64(), "the job's budget as the bid's settings state it", Role.BID_SETTING),
    Feature("duration_weeks", pa.float64(), "expected duration, weeks", Role.BID_SETTING),
    Feature("is_fixed_price", pa.bool_(), "fixed price, not by the hour", Role.BID_SETTING),
    Feature("amount", pa.float64(), "the amount offered"),
    Feature("amount_to_budget", pa.float64(), "amount / budget; missing where there is no budget"),
    Feature("bid_text_words", pa.int32(), "words of the bid's text; missing where it is empty"),
)


def features_of(bid: BidContext) -> dict[str, int | float | None]:
    """The features of one bid. Terms that are not stated, or are rubbish, are missing."""
    moment = datetime_from_microseconds(bid.at)
    budget, duration, fixed = _parse_terms(bid.settings)
    ratio = bid.amount / budget if bid.amount is not None and budget else math.nan
    return {
        "hour": moment.hour,
        "weekday": moment.weekday(),
        "month": moment.month,
        "is_weekend": moment.weekday() >= 5,
        "budget": budget,
        "duration_weeks": duration,
        "is_fixed_price": fixed,
        "amount": bid.amount,
        "amount_to_budget": ratio if math.isfinite(ratio) else None,
        "bid_text_words": len(_WORD.findall(bid.text or "")) or None,
    }


@lru_cache(maxsize=4096)
def _parse_terms(settings: str | None) -> tuple[float | bool | None, ...]:
    """The values of `_READERS` of a settings text."""
    terms, _ = read_object(settings)
    return tuple(read(terms.get(name))[0] for name, read in _READERS.items())


def reasons(settings: str | None) -> dict[str, str | None]:
    """Why a settings text, and each of its terms, cannot be read."""
    terms, reason = read_object(settings)
    return {_SETTINGS: reason, **{f"{_SETTINGS}.{name}": read(terms.get(name))[1] for name, read in _READERS.items()}}


FAMILY = FeatureFamily(
    name="bid_temporal_features",
    description="When a bid is made, its terms and its length: hour, weekday, month, budget, duration, "
    "fixed price, amount, words.",
    key="bid_id",
    reads=("raw_bids",),
    features=FEATURES,
    definition=RowDefinition(features_of),
    readability={_SETTINGS: reasons},
    code_version="3",
)
