"""Feature family: the terms of the bid: time of submission, budget, amount, duration, fixed price, text length."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bid_assets.app_db.contract import TEXT
from bid_assets.app_db.json_values import read_number, read_object, read_truth_value
from bid_assets.common.windows import TimeRange, datetime_from_microseconds
from bid_assets.features.family import Encoder, Feature, FeatureFamily, RawTables, bids_in_span
from bid_assets.features.inputs import BidContext
from bid_assets.features.interval_counts import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, microseconds

THURSDAY = 3
"""The weekday of 1970-01-01."""

_SETTINGS = "bid_settings_snapshot"
_READERS: dict[str, Callable[[object], tuple[float | bool | None, str | None]]] = {
    "budget": read_number,
    "duration_weeks": read_number,
    "is_fixed_price": read_truth_value,
}
_WORD = re.compile(r"[^\t\n\f\r ]+")  # Arrow's \S, which is not Python's

FEATURES = (
    Feature("hour", pa.int8(), "hour of submission, UTC, 0 to 23"),
    Feature("weekday", pa.int8(), "day of the week, 0 = Monday"),
    Feature("month", pa.int8(), "month, 1 to 12"),
    Feature("is_weekend", pa.bool_(), "submitted on Saturday or Sunday"),
    Feature("budget", pa.float64(), "the job's budget as the bid's settings state it"),
    Feature("duration_weeks", pa.float64(), "expected duration, weeks"),
    Feature("is_fixed_price", pa.bool_(), "fixed price, not by the hour"),
    Feature("amount", pa.float64(), "the amount offered"),
    Feature("amount_to_budget", pa.float64(), "amount / budget; missing where there is no budget"),
    Feature("bid_text_words", pa.int32(), "words of the bid's text; missing where it is empty"),
)


def compute_table(tables: RawTables, span: TimeRange, encoder: Encoder | None) -> pa.Table:
    """One row per bid submitted in `span`. Terms that are not stated, or are rubbish, are missing."""
    bids = bids_in_span(
        tables["raw_bids"].select(["id", "submitted_at", "amount", "bid_settings_snapshot", "generated_bid_text"]), span
    )
    time, amount = bids["submitted_at"], bids["amount"]
    budget, duration, fixed = _parse_terms(bids["bid_settings_snapshot"])
    moment = microseconds(time)
    day = moment // MICROSECONDS_PER_DAY
    hour, weekday = moment // MICROSECONDS_PER_HOUR % 24, (day + THURSDAY) % 7
    month = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    columns = {
        "hour": pa.array(hour.astype(np.int8)),
        "weekday": pa.array(weekday.astype(np.int8)),
        "month": pa.array(month.astype(np.int8)),
        "is_weekend": pa.array(weekday >= 5),
        "budget": budget,
        "duration_weeks": duration,
        "is_fixed_price": fixed,
        "amount": amount,
        "amount_to_budget": _ratio(amount, budget),
        "bid_text_words": _word_counts(bids["generated_bid_text"]),
    }
    return FAMILY.table(bids["id"], time, columns)


def compute_rows(bids: Sequence[BidContext], encoder: Encoder | None) -> list[dict[str, int | float | None]]:
    """The features of each bid, in order."""
    return [_features_of(bid) for bid in bids]


def _features_of(bid: BidContext) -> dict[str, int | float | None]:
    (terms, _), moment = read_object(bid.settings), datetime_from_microseconds(bid.at)
    budget, _ = read_number(terms.get("budget"))
    ratio = bid.amount / budget if bid.amount is not None and budget else math.nan
    return {
        "hour": moment.hour,
        "weekday": moment.weekday(),
        "month": moment.month,
        "is_weekend": moment.weekday() >= 5,
        "budget": budget,
        "duration_weeks": read_number(terms.get("duration_weeks"))[0],
        "is_fixed_price": read_truth_value(terms.get("is_fixed_price"))[0],
        "amount": bid.amount,
        "amount_to_budget": ratio if math.isfinite(ratio) else None,
        "bid_text_words": len(_WORD.findall(bid.text or "")) or None,
    }


def _ratio(amount: pa.ChunkedArray, budget: pa.Array) -> pa.Array:
    """Amount / budget; missing where it is not a finite number."""
    with np.errstate(all="ignore"):
        ratio = amount.to_numpy() / budget.to_numpy(zero_copy_only=False)
    return pa.array(ratio, mask=~np.isfinite(ratio))


def _word_counts(texts: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The number of words of each text; missing if there is none."""
    words = pc.count_substring_regex(texts, _WORD.pattern)
    return pc.if_else(pc.greater(words, 0), words, None)


def _parse_terms(settings: pa.ChunkedArray) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Budget, duration and fixed price of each settings text; every distinct text is parsed once."""
    objects, indices = _parse_objects(settings)
    budget, duration, fixed = (
        pa.array([read(terms.get(name))[0] for terms, _ in objects], kind).take(indices)
        for (name, read), kind in zip(_READERS.items(), (pa.float64(), pa.float64(), pa.bool_()), strict=True)
    )
    return budget, duration, fixed


def readability(tables: RawTables, span: TimeRange) -> tuple[pa.ChunkedArray, dict[str, pa.Array]]:
    """Submission time of each bid of `span`, and for its settings and each term the reason why it could not be read."""
    bids = bids_in_span(tables["raw_bids"].select(["submitted_at", _SETTINGS]), span)
    objects, indices = _parse_objects(bids[_SETTINGS])
    reasons = {_SETTINGS: [reason for _, reason in objects]}
    for name, read in _READERS.items():
        reasons[f"{_SETTINGS}.{name}"] = [read(terms.get(name))[1] for terms, _ in objects]
    return bids["submitted_at"], {column: pa.array(values, TEXT).take(indices) for column, values in reasons.items()}


def _parse_objects(settings: pa.ChunkedArray) -> tuple[list[tuple[dict[str, Any], str | None]], pa.Array]:
    """Every distinct settings text, parsed once, and of each row its index among them."""
    encoded = settings.combine_chunks().dictionary_encode()
    return [read_object(text) for text in encoded.dictionary.to_pylist()], encoded.indices


FAMILY = FeatureFamily(
    name="bid_temporal_features",
    description="When a bid is made, its terms and its length: hour, weekday, month, budget, duration, "
    "fixed price, amount, words.",
    key="bid_id",
    reads=("raw_bids",),
    features=FEATURES,
    compute_table=compute_table,
    compute_rows=compute_rows,
    readability=readability,
    code_version="3",
)
