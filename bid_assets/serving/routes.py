"""The HTTP endpoints: JSON to values of `prediction_service` and back. Bodies are defined in `schemas`."""

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
from bid_assets.serving.errors import ApiError, invalid_batch_error, validation_error_body
from bid_assets.serving.micro_batching import MicroBatcher
from bid_assets.serving.models.model_info import describe_models
from bid_assets.serving.online_features import OnlineBatch
from bid_assets.serving.prediction_service import Prediction, PredictionService

T = TypeVar("T")

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"model": schemas.ErrorOut, "description": "No valid API key."},
    403: {"model": schemas.ErrorOut, "description": "The key lacks the scope."},
    408: {"model": schemas.ErrorOut, "description": "The body did not come in time."},
    413: {"model": schemas.ErrorOut, "description": "The body is too large."},
    415: {"model": schemas.ErrorOut, "description": "The body is compressed."},
    422: {"model": schemas.ErrorOut, "description": "The body is not what it must be; `fields` names what is wrong."},
    429: {"model": schemas.ErrorOut, "description": "Too many requests of this key."},
    503: {
        "model": schemas.ErrorOut,
        "description": "No model is loaded, the database does not answer as it should, or time has run out.",
    },
}
ADMIN_PATHS = ("/reload",)
OPEN_PATHS = ("/health", "/ready")


class DirectRoute(APIRoute):
    """A route that calls its endpoint with the request and, where it declares a body model, the validated body.

    It skips FastAPI's dependency injection and response validation, which take as long as a prediction.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself, or a handler that validates the body first."""
        if self.body_field is None:
            return self.endpoint
        body_adapter: TypeAdapter[Any] = TypeAdapter(self.body_field.field_info.annotation or Any)

        async def validate_and_call(request: Request) -> Response:
            response: Response = await self.endpoint(request, body_adapter.validate_python(await _json_body(request)))
            return response

        return validate_and_call


predictions_router = APIRouter(route_class=DirectRoute, responses=ERROR_RESPONSES, tags=["predictions"])
service_router = APIRouter(responses=ERROR_RESPONSES, tags=["service"])

_FEATURES: TypeAdapter[schemas.FeaturesIn] = TypeAdapter(schemas.FeaturesIn)
_FEATURES_BATCH: TypeAdapter[schemas.FeaturesBatchIn] = TypeAdapter(schemas.FeaturesBatchIn)
_ROW = schemas.FeaturesIn.model_json_schema()
_ROWS = {"type": "array", "items": _ROW, "minItems": 1, "maxItems": schemas.MAX_BIDS}
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
"""The endpoint parses its body itself, which is faster; so its OpenAPI description is written here."""


@predictions_router.post("/predict", response_model=schemas.BidPredictionOut)
async def predict(request: Request, bid: schemas.BidIn) -> Response:
    """The probability that a bid succeeds, and whether to make it, by the active model."""
    batcher: MicroBatcher = request.app.state.batcher
    prediction, batch, row = await batcher.predict(bid.to_request())
    return _json_response(request, _with_freshness(prediction, batch, row), prediction)


@predictions_router.post("/predict/batch", response_model=schemas.BatchOut)
async def predict_batch(request: Request, batch: schemas.BatchIn) -> Response:
    """Predictions for many bids, each as if it were alone; an invalid bid has its error in its place."""
    bids = batch.to_requests()
    invalid = {
        number: validation_error_body(bid.error, "bids", number)
        for number, bid in enumerate(bids)
        if isinstance(bid, schemas.InvalidBid)
    }
    if len(invalid) == len(bids):
        raise invalid_batch_error([*invalid.values()])

    def predict_and_encode(service: PredictionService) -> tuple[Prediction, bytes]:
        predictions, features = service.predict([bid for bid in bids if not isinstance(bid, schemas.InvalidBid)])
        valid = (_with_freshness(prediction, features, row) for row, prediction in enumerate(predictions))
        items = [{"error": invalid[number]} if number in invalid else next(valid) for number in range(len(bids))]
        return predictions[0], _to_json({"predictions": items})

    first, body = await _run_in_thread(request, predict_and_encode)
    return _response(request, body, first)


@predictions_router.post("/predict/explain", response_model=schemas.ExplanationOut)
async def explain(request: Request, bid: schemas.BidIn) -> Response:
    """A prediction and its SHAP values: what each feature added to the log-odds, in words and numbers."""
    prediction, batch, explanation = await _run_in_thread(request, lambda service: service.explain(bid.to_request()))
    return _json_response(request, {**_with_freshness(prediction, batch, 0), **asdict(explanation)}, prediction)


@predictions_router.post("/predict/what-if", response_model=schemas.WhatIfOut)
async def what_if(request: Request, query: schemas.WhatIfIn) -> Response:
    """Probability and expected value of a bid over a grid of amounts and times. Nothing of it is logged."""
    service: PredictionService = request.app.state.service
    cost = service.settings.cost_per_bid if query.cost is None else query.cost
    gain = service.settings.gain_per_success if query.gain is None else query.gain
    amounts: list[float | None] = [*query.amounts] or [query.bid.amount]
    times: list[datetime | None] = [*query.times] or [query.bid.at]
    model, cells, missing = await _run_in_thread(
        request, lambda service: service.what_if(query.bid.to_request(), amounts, times)
    )

    def to_cell(amount: float | None, at: datetime, probability: float) -> schemas.CellOut:
        own_gain = gain if query.gain_share is None else query.gain_share * (amount or 0.0)
        value = probability * own_gain - cost
        return schemas.CellOut(amount=amount, at=at, probability=probability, gain=own_gain, expected_value=value)

    grid = [to_cell(*cell) for cell in cells]
    best = max(grid, key=lambda cell: cell.expected_value)
    common_gain = gain if query.gain_share is None else None
    content = schemas.WhatIfOut(model_version=model, cost=cost, gain=common_gain, grid=grid, best=best, missing=missing)
    return Response(content.model_dump_json(), media_type=JSON)


@predictions_router.post(
    "/predict/features",
    response_model=schemas.FeaturesPredictionOut | schemas.FeaturesBatchOut,
    openapi_extra=_FEATURES_BODY,
)
async def predict_features(request: Request) -> Response:
    """Predictions from precomputed features: one row (`features`), or several (`rows`)."""
    service: PredictionService = request.app.state.service
    value = await _json_body(request)
    if isinstance(value, dict) and "rows" in value:
        rows = [row.to_request() for row in _FEATURES_BATCH.validate_python(value).rows]
        results = await _run_in_thread(request, lambda service: service.predict_features(rows))
        return _json_response(request, {"predictions": [_with_missing(*result) for result in results]}, results[0][0])
    row = _FEATURES.validate_python(value).to_request()
    [result] = service.predict_features([row])  # tens of microseconds: not worth a thread
    return _json_response(request, _with_missing(*result), result[0])


@service_router.get("/model")
async def model(request: Request) -> Response:
    """The models that serve, since when, their metrics, and their lineage down to raw windows and commit."""
    return Response(await _run_in_thread(request, lambda service: _to_json(describe_models(service))), media_type=JSON)


@service_router.post("/reload", responses={409: {"model": schemas.ErrorOut, "description": "It was refused."}})
async def reload(request: Request) -> Response:
    """Read the deployment history now and try rejected models again, in this worker; others follow within two seconds."""
    status = await _run_in_thread(request, lambda service: service.watcher.refresh(force=True))
    if status.reason is not None:
        raise ApiError(503 if status.serving is None else 409, "refused", status.reason)
    return Response(_to_json(readiness(request.app.state.service)), media_type=JSON)


@service_router.get("/health")
async def health() -> dict[str, str]:
    """Liveness: whether the process responds."""
    return {"status": "alive"}


@service_router.get("/ready")
async def ready(request: Request) -> Response:
    """Readiness: 503 with the reason unless a verified model is loaded and look-ups work. Names rejected models either way."""
    content = readiness(request.app.state.service)
    return Response(_to_json(content), 200 if content["ready"] else 503, media_type=JSON)


@service_router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    service: PredictionService = request.app.state.service
    return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


JSON = "application/json"


def readiness(service: PredictionService) -> dict[str, Any]:
    """The body of `/ready`."""
    status, log, failure = service.status, service.log, service.online.lookup.failure
    reasons = [status.reason, failure and f"look-ups fail: {failure}"]
    return {
        "ready": status.serving is not None and failure is None,
        "model_version": None if status.serving is None else status.serving.active.version,
        "wanted": status.target_version,
        "reason": "; ".join(reason for reason in reasons if reason) or None,
        "refused": status.rejections,
        "prediction_log": {"backlog": log.backlog, "lost": log.lost, "error": log.error},
    }


async def _run_in_thread(request: Request, work: Callable[[PredictionService], T]) -> T:
    """Run `work` in the thread pool, whose threads have a connection to the database each."""
    state = request.app.state
    return await asyncio.get_running_loop().run_in_executor(state.threads, partial(work, state.service))


async def _json_body(request: Request) -> Any:
    """The parsed body. Raises `ApiError` unless it is JSON and declared so: any website can send other content types."""
    if (encoding := request.headers.get("content-encoding", "identity").strip().lower()) not in ("identity", ""):
        raise ApiError(
            415, "unsupported media type", f"the body is encoded as {encoding}; send it as it is, without Content-Encoding"
        )
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON and not media_type.endswith("+json"):
        raise ApiError(422, "invalid", f"the body is {media_type or 'of no type'}; its Content-Type must be {JSON}", "body")
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise ApiError(422, "invalid", f"the body is not JSON: {error}", "body") from None


def _with_freshness(prediction: Prediction, batch: OnlineBatch, row: int) -> dict[str, Any]:
    freshness = {"as_of": batch.as_of[row], "newest_outcome": batch.newest_outcome[row], "missing": batch.missing[row]}
    return {**vars(prediction), "features": freshness}


def _with_missing(prediction: Prediction, missing: list[str]) -> dict[str, Any]:
    return {**vars(prediction), "missing": missing}


def _to_json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


def _json_response(request: Request, value: Any, prediction: Prediction) -> Response:
    return _response(request, _to_json(value), prediction)


def _response(request: Request, body: bytes, prediction: Prediction) -> Response:
    request.state.model_version = prediction.model_version  # for the access log
    return Response(body, media_type=JSON)
