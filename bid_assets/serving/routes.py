"""The endpoints: JSON to the service's values and back. What is asked of the service is in `service`, the shapes in `schemas`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from bid_assets.serving import schemas
from bid_assets.serving.errors import Refused, invalid_batch, invalid_body
from bid_assets.serving.micro_batching import Together
from bid_assets.serving.models.model_info import model_facts
from bid_assets.serving.online_features import OnlineBatch
from bid_assets.serving.prediction_service import Answer, PredictionService

T = TypeVar("T")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": schemas.ProblemOut, "description": "No valid API key."},
    403: {"model": schemas.ProblemOut, "description": "The key lacks the scope."},
    408: {"model": schemas.ProblemOut, "description": "The body did not come in time."},
    413: {"model": schemas.ProblemOut, "description": "The body is too large."},
    415: {"model": schemas.ProblemOut, "description": "The body is compressed."},
    422: {"model": schemas.ProblemOut, "description": "The body is not what it must be; `fields` names what is wrong."},
    429: {"model": schemas.ProblemOut, "description": "Too many requests of this key."},
    503: {
        "model": schemas.ProblemOut,
        "description": "No model is loaded, the database does not answer as it should, or time has run out.",
    },
}
ADMIN_PATHS = ("/reload",)
OPEN_PATHS = ("/health", "/ready")


class Direct(APIRoute):
    """A route whose endpoint gets the request and, where it has one, its body checked against the model that it declares.

    All else that FastAPI would do for it takes as long as a prediction.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself, or what checks the body for it."""
        if self.body_field is None:
            return self.endpoint
        expected: TypeAdapter[Any] = TypeAdapter(self.body_field.field_info.annotation or Any)

        async def checked(request: Request) -> Response:
            response: Response = await self.endpoint(request, expected.validate_python(await _json_body(request)))
            return response

        return checked


predictions = APIRouter(route_class=Direct, responses=PROBLEMS, tags=["predictions"])
router = APIRouter(responses=PROBLEMS, tags=["service"])

_FEATURES: TypeAdapter[schemas.FeaturesIn] = TypeAdapter(schemas.FeaturesIn)
_FEATURES_BATCH: TypeAdapter[schemas.FeaturesBatchIn] = TypeAdapter(schemas.FeaturesBatchIn)
_ROW = schemas.FeaturesIn.model_json_schema()
_ROWS = {"type": "array", "items": _ROW, "minItems": 1, "maxItems": schemas.MOST_BIDS}
_FEATURES_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        _ROW,
                        {"type": "object", "properties": {"rows": _ROWS}, "required": ["rows"], "additionalProperties": False},
                    ]
                },
                "examples": {
                    "one": {"value": {"features": {"amount": 450, "success_rate_90d": 0.31}, "profile_id": "p17"}},
                    "several": {"value": {"rows": [{"features": {"amount": 450}}, {"features": {"amount": 600}}]}},
                },
            }
        },
    }
}
"""The endpoint reads its body itself, which is faster; so its description is written here."""


@predictions.post("/predict", response_model=schemas.BidPredictionOut)
async def predict(request: Request, bid: schemas.BidIn) -> Response:
    """The probability that a bid succeeds, by the active model, and whether to make it."""
    together: Together = request.app.state.together
    answer, batch, row = await together.answer(bid.bid())
    return _json(request, _prediction(answer, batch, row), answer)


@predictions.post("/predict/batch", response_model=schemas.BatchOut)
async def predict_batch(request: Request, batch: schemas.BatchIn) -> Response:
    """The same for many bids at once. They do not see each other; a bid that is not what it must be is told so in its place."""
    bids = batch.each()
    invalid = {
        number: invalid_body(bid.error, "bids", number)
        for number, bid in enumerate(bids)
        if isinstance(bid, schemas.InvalidBid)
    }
    if len(invalid) == len(bids):
        raise invalid_batch([*invalid.values()])

    def answered(service: PredictionService) -> tuple[Answer, bytes]:
        answers, features = service.predict([bid for bid in bids if not isinstance(bid, schemas.InvalidBid)])
        told = (_prediction(answer, features, row) for row, answer in enumerate(answers))
        predictions = [{"error": invalid[number]} if number in invalid else next(told) for number in range(len(bids))]
        return answers[0], _bytes({"predictions": predictions})

    first, body = await _aside(request, answered)
    return _response(request, body, first)


@predictions.post("/predict/explain", response_model=schemas.ExplanationOut)
async def explain(request: Request, bid: schemas.BidIn) -> Response:
    """A prediction, and what moved it: the contribution of each feature to the log-odds (SHAP), in words and numbers."""
    answer, batch, why = await _aside(request, lambda service: service.explain(bid.bid()))
    return _json(request, {**_prediction(answer, batch, 0), **asdict(why)}, answer)


@predictions.post("/predict/what-if", response_model=schemas.WhatIfOut)
async def what_if(request: Request, asked: schemas.WhatIfIn) -> Response:
    """Probability and expected value of a bid over a grid of amounts and moments. Nothing of it is logged."""
    service: PredictionService = request.app.state.service
    cost = service.settings.cost_per_bid if asked.cost is None else asked.cost
    gain = service.settings.gain_per_success if asked.gain is None else asked.gain
    amounts: list[float | None] = [*asked.amounts] or [asked.bid.amount]
    times: list[datetime | None] = [*asked.times] or [asked.bid.at]
    model, cells, missing = await _aside(request, lambda service: service.what_if(asked.bid.bid(), amounts, times))

    def cell(amount: float | None, at: datetime, chance: float) -> schemas.CellOut:
        brings = gain if asked.gain_share is None else asked.gain_share * (amount or 0.0)
        return schemas.CellOut(amount=amount, at=at, probability=chance, gain=brings, expected_value=chance * brings - cost)

    grid = [cell(*each) for each in cells]
    best = max(grid, key=lambda cell: cell.expected_value)
    everywhere = gain if asked.gain_share is None else None
    told = schemas.WhatIfOut(model_version=model, cost=cost, gain=everywhere, grid=grid, best=best, missing=missing)
    return Response(told.model_dump_json(), media_type=JSON)


@predictions.post(
    "/predict/features",
    response_model=schemas.FeaturesPredictionOut | schemas.FeaturesBatchOut,
    openapi_extra=_FEATURES_BODY,
)
async def predict_features(request: Request) -> Response:
    """For callers that bring ready features: one row (`features`), or several (`rows`)."""
    service: PredictionService = request.app.state.service
    value = await _json_body(request)
    if isinstance(value, dict) and "rows" in value:
        rows = [row.ready() for row in _FEATURES_BATCH.validate_python(value).rows]
        found = await _aside(request, lambda service: service.predict_features(rows))
        return _json(request, {"predictions": [_with_missing(*each) for each in found]}, found[0][0])
    [one] = service.predict_features([_FEATURES.validate_python(value).ready()])  # tens of microseconds: not worth a thread
    return _json(request, _with_missing(*one), one[0])


@router.get("/model")
async def model(request: Request) -> Response:
    """What serves, since when, its figures, and its lineage down to raw windows and commit."""
    return Response(await _aside(request, lambda service: _bytes(model_facts(service))), media_type=JSON)


@router.post("/reload", responses={409: {"model": schemas.ProblemOut, "description": "It was refused."}})
async def reload(request: Request) -> Response:
    """Look at the deployment history now, and try refused models again. This worker does so at once, others within two seconds."""
    status = await _aside(request, lambda service: service.follower.look(again=True))
    if status.reason is not None:
        raise Refused(503 if status.serving is None else 409, "refused", status.reason)
    return Response(_bytes(readiness(request.app.state.service)), media_type=JSON)


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the process is alive."""
    return {"status": "alive"}


@router.get("/ready")
async def ready(request: Request) -> Response:
    """Whether a verified model is loaded and look-ups work; 503 with the reason otherwise. What was refused is said either way."""
    told = readiness(request.app.state.service)
    return Response(_bytes(told), 200 if told["ready"] else 503, media_type=JSON)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    service: PredictionService = request.app.state.service
    return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


JSON = "application/json"


def readiness(service: PredictionService) -> dict[str, Any]:
    """What `/ready` says."""
    status, log, failure = service.status, service.log, service.online.lookup.failure
    reasons = [status.reason, failure and f"look-ups fail: {failure}"]
    return {
        "ready": status.serving is not None and failure is None,
        "model_version": None if status.serving is None else status.serving.active.version,
        "wanted": status.wanted,
        "reason": "; ".join(reason for reason in reasons if reason) or None,
        "refused": status.refused,
        "prediction_log": {"backlog": log.backlog, "lost": log.lost, "error": log.error},
    }


async def _aside(request: Request, work: Callable[[PredictionService], T]) -> T:
    """Do `work` in one of a few threads, each with its own connection to the database."""
    state = request.app.state
    return await asyncio.get_running_loop().run_in_executor(state.threads, partial(work, state.service))


async def _json_body(request: Request) -> Any:
    """Raises `Refused` for what is no JSON, or does not say that it is: a page of another site can send that unasked."""
    if (encoding := request.headers.get("content-encoding", "identity").strip().lower()) not in ("identity", ""):
        raise Refused(
            415, "unsupported media type", f"the body is encoded as {encoding}; send it as it is, without Content-Encoding"
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json"):
        raise Refused(422, "invalid", f"the body is {kind or 'of no type'}; its Content-Type must be {JSON}", "body")
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise Refused(422, "invalid", f"the body is not JSON: {error}", "body") from None


def _prediction(answer: Answer, batch: OnlineBatch, row: int) -> dict[str, Any]:
    known = {"as_of": batch.as_of[row], "newest_outcome": batch.newest_outcome[row], "missing": batch.missing[row]}
    return {**vars(answer), "features": known}


def _with_missing(answer: Answer, missing: list[str]) -> dict[str, Any]:
    return {**vars(answer), "missing": missing}


def _bytes(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


def _json(request: Request, value: Any, answer: Answer) -> Response:
    return _response(request, _bytes(value), answer)


def _response(request: Request, body: bytes, answer: Answer) -> Response:
    request.state.model_version = answer.model_version  # for the access log
    return Response(body, media_type=JSON)
