"""Error responses of the API, all of one shape: `{"error": {code, message, request_id, fields?}}`, and their handlers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from bid_assets.app_db.connections import DatabaseRefusalError, DatabaseUnreachableError
from bid_assets.app_db.contract import ContractError
from bid_assets.modelling.estimators.column_encoders import ColumnMismatchError
from bid_assets.serving.prediction_service import NotReadyError

MAX_FIELDS = 100
"""At most so many fields are named in one error."""
_MAX_NAME_LENGTH, _MAX_MESSAGE_LENGTH = 200, 2000  # characters of what a caller sent that are sent back

_CODES = {404: "not found", 405: "method not allowed"}


class ApiError(Exception):
    """An error response: HTTP status, code, message, and the invalid fields."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.fields: list[dict[str, str]] = [] if field is None else [{"field": field, "message": message}]


def error_response(
    request: Request, status: int, code: str, message: str, fields: Sequence[dict[str, str]] = (), headers: Any = None
) -> Response:
    """The HTTP response of an error."""
    body = {"error": {**error_body(code, message, fields), "request_id": getattr(request.state, "request_id", None)}}
    return Response(orjson.dumps(body), status, headers=headers, media_type="application/json")


def error_body(code: str, message: str, fields: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    """Code, message and fields of an error; what a caller sent is truncated, and at most `MAX_FIELDS` fields are named."""
    body: dict[str, Any] = {"code": code, "message": _truncate(message, _MAX_MESSAGE_LENGTH)}
    if fields:
        body["fields"] = [
            {"field": _truncate(item["field"], _MAX_NAME_LENGTH), "message": _truncate(item["message"], _MAX_MESSAGE_LENGTH)}
            for item in fields[:MAX_FIELDS]
        ]
    return body


def validation_error_body(error: ValidationError, *location: str | int) -> dict[str, Any]:
    """The `error_body` of a value that failed validation; `location`: its path in the request's body."""
    fields = [
        {"field": ".".join(map(str, (*location, *item["loc"]))) or "body", "message": item["msg"]}
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    summary = f"{_truncate(fields[0]['field'], _MAX_NAME_LENGTH)}: {fields[0]['message']}"
    rest = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return error_body("invalid", summary + rest, fields)


def invalid_batch_error(bodies: Sequence[dict[str, Any]]) -> ApiError:
    """The error of a batch whose bids all failed validation, from the `validation_error_body` of each."""
    batch_error = ApiError(422, "invalid", bodies[0]["message"])
    batch_error.fields = [field for body in bodies for field in body["fields"]]
    return batch_error


def _truncate(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else f"{text[:max_length]}..."


def add_error_handlers(app: FastAPI) -> None:
    """Add the handlers of all known errors to the app; what is unknown is handled by the request middleware."""

    @app.exception_handler(ValidationError)
    async def _validation_error(request: Request, error: ValidationError) -> Response:
        body = validation_error_body(error)
        return error_response(request, 422, body["code"], body["message"], body["fields"])

    @app.exception_handler(ColumnMismatchError)
    async def _wrong_columns(request: Request, error: ColumnMismatchError) -> Response:
        field = "features" if error.column is None else f"features.{error.column}"
        return error_response(request, 422, "invalid", str(error), [{"field": field, "message": str(error)}])

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> Response:
        return error_response(request, error.status, error.code, error.message, error.fields)

    @app.exception_handler(NotReadyError)
    async def _not_ready(request: Request, error: NotReadyError) -> Response:
        return error_response(request, 503, "not ready", str(error), headers={"Retry-After": "5"})

    @app.exception_handler(DatabaseUnreachableError)
    @app.exception_handler(DatabaseRefusalError)
    @app.exception_handler(ContractError)
    async def _database(request: Request, error: Exception) -> Response:
        return error_response(request, 503, "database", str(error), headers={"Retry-After": "5"})

    @app.exception_handler(HTTPException)
    async def _http_exception(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "refused")
        return error_response(request, error.status_code, code, str(error.detail), headers=error.headers)
