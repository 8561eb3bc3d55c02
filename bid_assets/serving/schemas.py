"""What requests and answers look like as JSON, with bounds and examples: the OpenAPI description is made from this."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.config import JsonDict

from bid_assets.common.windows import as_utc
from bid_assets.serving.bid_requests import BidToBe, JobText, ReadyFeatures, parse_time

MOST_BIDS = 5_000
"""Bids in one batch."""
MOST_CELLS = 1_000
"""Amounts times moments in one what-if."""
MAX_DEPTH = 100
"""Levels of nesting of settings, signals and features; orjson writes no more than 254."""
_LONGEST_TEXT = 100_000
_FIRST, _LAST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _number(value: Any) -> Any:
    """JSON's `true` is no number, and Python's `1_500` is none to `bid-assets import`."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise ValueError("must be a number")
    return value


def _within_depth(value: Any) -> Any:
    """Level by level, since a recursive walk would itself end at Python's limit."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in _children(each) if isinstance(child, dict | list)]
        if not level:
            return value
    raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")


def _children(value: Any) -> Any:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _usable(moment: datetime) -> datetime:
    with suppress(OverflowError):  # the first or the last day there is, in a zone from which UTC lies beyond it
        if _FIRST <= (moment := as_utc(moment)) < _LAST:
            return moment
    raise ValueError(f"must lie between {_FIRST:%Y} and {_LAST:%Y}")


Id = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Text = Annotated[str, Field(max_length=_LONGEST_TEXT)]
Moment = Annotated[datetime, BeforeValidator(parse_time), AfterValidator(_usable)]
"""ISO 8601 as `bid-assets import` takes it; without a zone it is UTC."""
Amount = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1e15, allow_inf_nan=False)]
Json = Annotated[dict[str, Any] | Text, AfterValidator(_within_depth)]

BID: JsonDict = {
    "profile_id": "p17",
    "job_id": "j42",
    "bid_text": "I have built three such dashboards; here is how I would go about yours.",
    "amount": 450,
    "settings": {"budget": 600, "duration_weeks": 2, "is_fixed_price": True},
    "external_signals": {"client_rating": 4.7},
}


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JobIn(_In):
    """A job that the application's database does not have yet."""

    title: Text | None = None
    description: Text | None = None
    category: Text | None = None
    required_skills: list[Annotated[str, Field(max_length=200)]] | None = Field(None, max_length=500)
    posted_at: Moment | None = None
    client_id: Id | None = Field(None, description="Whose job it is; then the client's record counts.")


class BidIn(_In):
    """A bid to be."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [BID]})

    profile_id: Id
    job_id: Id | None = None
    job: JobIn | None = Field(None, description="In place of what the database knows of `job_id`.")
    bid_text: Text | None = None
    amount: Amount | None = None
    settings: Json | None = Field(None, description="As in `bid_settings_snapshot`: budget, duration_weeks, is_fixed_price.")
    external_signals: Json | None = Field(None, description="As in `external_signals_snapshot`.")
    at: Moment | None = Field(
        None, description="When it would be submitted; only what is known before then counts. Default: now."
    )
    bid_id: Id | None = Field(None, description="The application's own id, kept in the log to join the outcome by.")

    def bid(self) -> BidToBe:
        """As the service takes it."""
        job = None if self.job is None else JobText(**{name: getattr(self.job, name) for name in type(self.job).model_fields})
        given = {name: getattr(self, name) for name in type(self).model_fields if name != "job"}
        return BidToBe(**given, job=job)


@dataclass(frozen=True)
class InvalidBid:
    """A bid of a batch that cannot be asked about, and what is wrong with it."""

    error: ValidationError


def _by_itself(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """A bid of a batch; one that is not what it must be keeps no other from its answer."""
    try:
        return validate(value)
    except ValidationError as error:
        return InvalidBid(error)


class BatchIn(_In):
    """Several bids at once; they do not see each other."""

    bids: list[Annotated[BidIn, WrapValidator(_by_itself)]] = Field(min_length=1, max_length=MOST_BIDS)

    def each(self) -> list[BidToBe | InvalidBid]:
        """As the service takes them; and what is wrong with those that it cannot take."""
        found: list[BidIn | InvalidBid] = [*self.bids]
        return [each if isinstance(each, InvalidBid) else each.bid() for each in found]


class WhatIfIn(_In):
    """A bid, and amounts or moments to try instead of its own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"bid": BID, "amounts": [300, 450, 600], "cost": 1.5, "gain": 200}]},
    )

    bid: BidIn
    amounts: list[Amount] = Field([], max_length=MOST_CELLS, description="Empty: the bid's own amount.")
    times: list[Moment] = Field([], max_length=MOST_CELLS, description="Empty: the bid's own time.")
    cost: Amount | None = Field(None, description="What a bid costs. Default: the setting `cost_per_bid`.")
    gain: Amount | None = Field(None, description="What a success brings. Default: the setting `gain_per_success`.")
    gain_share: Amount | None = Field(None, description="What a success brings as a share of the amount, in place of `gain`.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        cells = max(len(self.amounts), 1) * max(len(self.times), 1)
        if self.gain_share is not None and self.gain is not None:
            raise ValueError("a success brings either `gain` or `gain_share` of the amount, not both")
        if self.gain_share is not None and not self.amounts and self.bid.amount is None:
            raise ValueError("`gain_share` is a share of the amount: give `amounts`, or the bid's `amount`")
        if cells > MOST_CELLS:
            raise ValueError(f"amounts x times are {cells} bids; at most {MOST_CELLS} are answered at once")
        return self


class FeaturesIn(_In):
    """Ready features, by column of the training dataset; what is absent is missing."""

    features: Annotated[dict[str, Any], AfterValidator(_within_depth)]
    profile_id: Id | None = None
    job_id: Id | None = None
    bid_id: Id | None = None

    def ready(self) -> ReadyFeatures:
        """As the service takes it."""
        return ReadyFeatures(self.features, self.profile_id, self.job_id, self.bid_id)


class FeaturesBatchIn(_In):
    """Several rows of ready features."""

    rows: list[FeaturesIn] = Field(min_length=1, max_length=MOST_BIDS)


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(BaseModel):
    """Why there is no answer."""

    code: str
    message: str
    request_id: str | None = None
    fields: list[FieldProblem] | None = None


class ProblemOut(BaseModel):
    """The one shape of all errors."""

    error: Problem


class ProfileFreshness(BaseModel):
    """How fresh the features are, and what was not there."""

    as_of: datetime = Field(description="Only what was known before this moment was used.")
    newest_outcome: datetime | None = Field(description="The newest outcome of the profile known by then.")
    missing: list[str] = Field(description="What was unknown or not said: such features are missing, as in training.")


class PredictionOut(BaseModel):
    """The prediction for one bid."""

    prediction_id: str
    probability: float = Field(ge=0, le=1)
    decision: bool = Field(description="Whether to bid: the probability reaches `threshold`.")
    threshold: float
    variant: str = Field(description="Who answered: `active` or `canary`.")
    model_version: str
    dataset_version: str


class BidPredictionOut(PredictionOut):
    """The prediction for one bid, and what it rests on."""

    features: ProfileFreshness


class BatchOut(BaseModel):
    """In the order of the bids; in place of a bid that is not what it must be, what is wrong with it."""

    predictions: list[BidPredictionOut | ProblemOut]


class FeaturesPredictionOut(PredictionOut):
    """The prediction for one row of ready features."""

    missing: list[str] = Field(description="Features that were absent or null.")


class FeaturesBatchOut(BaseModel):
    """In the order of the rows."""

    predictions: list[FeaturesPredictionOut]


class ContributionOut(BaseModel):
    """What one column of the dataset added to the log-odds."""

    feature: str
    value: Any
    log_odds: float
    words: str


class ExplanationOut(BidPredictionOut):
    """The prediction, and what moved it: `base` and all contributions add up to `log_odds`."""

    base: float
    contributions: list[ContributionOut]
    log_odds: float
    summary: str


class CellOut(BaseModel):
    """One amount at one moment."""

    amount: float | None
    at: datetime
    probability: float
    gain: float = Field(description="What a success brings at this amount.")
    expected_value: float = Field(description="probability x gain - cost")


class WhatIfOut(BaseModel):
    """Every amount at every moment, and the best of them."""

    model_version: str
    cost: float
    gain: float | None = Field(description="What a success brings at every amount; null where it is a share of the amount.")
    grid: list[CellOut]
    best: CellOut
    missing: list[str] = Field(description="What was unknown or not said: of amounts without a budget less can be told.")
