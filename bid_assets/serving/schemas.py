"""Request and response bodies as Pydantic models, with bounds and examples: the OpenAPI description is made from these."""

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
from bid_assets.serving.bid_requests import BidRequest, JobDetails, PrecomputedFeatures, parse_timestamp

MAX_BIDS = 5_000
"""Bids in one batch."""
MAX_CELLS = 1_000
"""Amounts times times in one what-if grid."""
MAX_DEPTH = 100
"""Levels of nesting of settings, signals and features; orjson writes no more than 254."""
_MAX_TEXT_LENGTH = 100_000
_MIN_TIME, _MAX_TIME = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _integer_to_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _require_number(value: Any) -> Any:
    """JSON's `true` is no number, and Python's `1_500` is none to `bid-assets import`."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise ValueError("must be a number")
    return value


def _require_depth(value: Any) -> Any:
    """Level by level, since a recursive walk would itself end at Python's limit."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _nested_values(item) if isinstance(child, dict | list)]
        if not level:
            return value
    raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")


def _nested_values(value: Any) -> Any:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _require_supported_year(timestamp: datetime) -> datetime:
    with suppress(OverflowError):  # the first or the last day there is, in a zone from which UTC lies beyond it
        if _MIN_TIME <= (timestamp := as_utc(timestamp)) < _MAX_TIME:
            return timestamp
    raise ValueError(f"must lie between {_MIN_TIME:%Y} and {_MAX_TIME:%Y}")


Id = Annotated[str, BeforeValidator(_integer_to_text), Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Text = Annotated[str, Field(max_length=_MAX_TEXT_LENGTH)]
Timestamp = Annotated[datetime, BeforeValidator(parse_timestamp), AfterValidator(_require_supported_year)]
"""ISO 8601 as `bid-assets import` takes it; without a zone it is UTC."""
Amount = Annotated[float, BeforeValidator(_require_number), Field(ge=0, le=1e15, allow_inf_nan=False)]
Json = Annotated[dict[str, Any] | Text, AfterValidator(_require_depth)]

BID: JsonDict = {
    "profile_id": "p17",
    "job_id": "j42",
    "bid_text": "I have built three such dashboards; here is how I would go about yours.",
    "amount": 450,
    "settings": {"budget": 600, "duration_weeks": 2, "is_fixed_price": True},
    "external_signals": {"client_rating": 4.7},
}


class _RequestModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JobIn(_RequestModel):
    """A job that the application's database does not have yet."""

    title: Text | None = None
    description: Text | None = None
    category: Text | None = None
    required_skills: list[Annotated[str, Field(max_length=200)]] | None = Field(None, max_length=500)
    posted_at: Timestamp | None = None
    client_id: Id | None = Field(None, description="The job's client, whose history then counts.")


class BidIn(_RequestModel):
    """A bid to predict."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [BID]})

    profile_id: Id
    job_id: Id | None = None
    job: JobIn | None = Field(None, description="In place of what the database knows of `job_id`.")
    bid_text: Text | None = None
    amount: Amount | None = None
    settings: Json | None = Field(None, description="As in `bid_settings_snapshot`: budget, duration_weeks, is_fixed_price.")
    external_signals: Json | None = Field(None, description="As in `external_signals_snapshot`.")
    at: Timestamp | None = Field(
        None, description="When it would be submitted; only what is known before then counts. Default: now."
    )
    bid_id: Id | None = Field(None, description="The application's own id, kept in the log to join the outcome by.")

    def to_request(self) -> BidRequest:
        """The request to the prediction service."""
        job = (
            None if self.job is None else JobDetails(**{name: getattr(self.job, name) for name in type(self.job).model_fields})
        )
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "job"}
        return BidRequest(**values, job=job)


@dataclass(frozen=True)
class InvalidBid:
    """A bid of a batch that failed validation."""

    error: ValidationError


def _validate_one(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Validate one bid of a batch; an invalid one does not fail the others."""
    try:
        return validate(value)
    except ValidationError as error:
        return InvalidBid(error)


class BatchIn(_RequestModel):
    """Several bids at once, each predicted as if it were alone."""

    bids: list[Annotated[BidIn, WrapValidator(_validate_one)]] = Field(min_length=1, max_length=MAX_BIDS)

    def to_requests(self) -> list[BidRequest | InvalidBid]:
        """The requests to the prediction service, in their order; in place of an invalid bid its error."""
        bids: list[BidIn | InvalidBid] = [*self.bids]
        return [item if isinstance(item, InvalidBid) else item.to_request() for item in bids]


class WhatIfIn(_RequestModel):
    """A bid, and amounts or times to try instead of its own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"bid": BID, "amounts": [300, 450, 600], "cost": 1.5, "gain": 200}]},
    )

    bid: BidIn
    amounts: list[Amount] = Field([], max_length=MAX_CELLS, description="Empty: the bid's own amount.")
    times: list[Timestamp] = Field([], max_length=MAX_CELLS, description="Empty: the bid's own time.")
    cost: Amount | None = Field(None, description="What a bid costs. Default: the setting `cost_per_bid`.")
    gain: Amount | None = Field(None, description="What a success brings. Default: the setting `gain_per_success`.")
    gain_share: Amount | None = Field(None, description="What a success brings as a share of the amount, in place of `gain`.")

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        cells = max(len(self.amounts), 1) * max(len(self.times), 1)
        if self.gain_share is not None and self.gain is not None:
            raise ValueError("a success brings either `gain` or `gain_share` of the amount, not both")
        if self.gain_share is not None and not self.amounts and self.bid.amount is None:
            raise ValueError("`gain_share` is a share of the amount: give `amounts`, or the bid's `amount`")
        if cells > MAX_CELLS:
            raise ValueError(f"amounts x times are {cells} bids; at most {MAX_CELLS} are answered at once")
        return self


class FeaturesIn(_RequestModel):
    """Precomputed features, by column of the training dataset; what is absent is missing."""

    features: Annotated[dict[str, Any], AfterValidator(_require_depth)]
    profile_id: Id | None = None
    job_id: Id | None = None
    bid_id: Id | None = None

    def to_request(self) -> PrecomputedFeatures:
        """The request to the prediction service."""
        return PrecomputedFeatures(self.features, self.profile_id, self.job_id, self.bid_id)


class FeaturesBatchIn(_RequestModel):
    """Several rows of precomputed features."""

    rows: list[FeaturesIn] = Field(min_length=1, max_length=MAX_BIDS)


class FieldError(BaseModel):
    """What is wrong with one field of the body."""

    field: str
    message: str


class ErrorDetail(BaseModel):
    """Code, message and fields of an error."""

    code: str
    message: str
    request_id: str | None = None
    fields: list[FieldError] | None = None


class ErrorOut(BaseModel):
    """The body of every error response."""

    error: ErrorDetail


class ProfileFreshness(BaseModel):
    """How fresh the features are, and what was not there."""

    as_of: datetime = Field(description="Only what was known before this moment was used.")
    newest_outcome: datetime | None = Field(description="The newest outcome of the profile known by then.")
    missing: list[str] = Field(description="What was unknown or not given: such features are missing, as in training.")


class PredictionOut(BaseModel):
    """The prediction for one bid."""

    prediction_id: str
    probability: float = Field(ge=0, le=1)
    decision: bool = Field(description="Whether to bid: the probability reaches `threshold`.")
    threshold: float
    variant: str = Field(description="Which model predicted: `active` or `canary`.")
    model_version: str
    dataset_version: str


class BidPredictionOut(PredictionOut):
    """The prediction for one bid, and the freshness of its features."""

    features: ProfileFreshness


class BatchOut(BaseModel):
    """Predictions in the order of the bids; in place of an invalid bid its error."""

    predictions: list[BidPredictionOut | ErrorOut]


class FeaturesPredictionOut(PredictionOut):
    """The prediction for one row of precomputed features."""

    missing: list[str] = Field(description="Features that were absent or null.")


class FeaturesBatchOut(BaseModel):
    """Predictions in the order of the rows."""

    predictions: list[FeaturesPredictionOut]


class ContributionOut(BaseModel):
    """SHAP value of one column of the dataset, in log-odds."""

    feature: str
    value: Any
    log_odds: float
    words: str


class ExplanationOut(BidPredictionOut):
    """A prediction and its SHAP values: `base` and all contributions add up to `log_odds`."""

    base: float
    contributions: list[ContributionOut]
    log_odds: float
    summary: str


class CellOut(BaseModel):
    """One cell of a what-if grid: one amount at one time."""

    amount: float | None
    at: datetime
    probability: float
    gain: float = Field(description="What a success brings at this amount.")
    expected_value: float = Field(description="probability x gain - cost")


class WhatIfOut(BaseModel):
    """A what-if grid: every amount at every time, and the cell of the highest expected value."""

    model_version: str
    cost: float
    gain: float | None = Field(description="What a success brings at every amount; null where it is a share of the amount.")
    grid: list[CellOut]
    best: CellOut
    missing: list[str] = Field(description="What was unknown or not given; without a budget, amounts tell less.")
