"""Everything that keeps a request from an answer, in one shape: `{"error": {code, message, request_id, fields?}}`."""

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
from bid_assets.modelling.estimators.column_encoders import WrongColumns
from bid_assets.serving.prediction_service import NotReady

MAX_FIELDS = 100
"""So many fields are named, however many are wrong."""
_LONGEST_NAME, _LONGEST_MESSAGE = 200, 2000  # characters of what a caller sent that are sent back

_CODES = {404: "not found", 405: "method not allowed"}


class Refused(Exception):
    """A request that gets no answer: status, code and message, and the fields that are to blame."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.fields: list[dict[str, str]] = [] if field is None else [{"field": field, "message": message}]


def problem(
    request: Request, status: int, code: str, message: str, fields: Sequence[dict[str, str]] = (), headers: Any = None
) -> Response:
    """The response that says so."""
    body = {"error": {**error_body(code, message, fields), "request_id": getattr(request.state, "request_id", None)}}
    return Response(orjson.dumps(body), status, headers=headers, media_type="application/json")


def error_body(code: str, message: str, fields: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    """What every error says; of what a caller sent, no more is repeated than a person reads."""
    told: dict[str, Any] = {"code": code, "message": _clipped(message, _LONGEST_MESSAGE)}
    if fields:
        told["fields"] = [
            {"field": _clipped(each["field"], _LONGEST_NAME), "message": _clipped(each["message"], _LONGEST_MESSAGE)}
            for each in fields[:MAX_FIELDS]
        ]
    return told


def invalid_body(error: ValidationError, *where: str | int) -> dict[str, Any]:
    """The same of a value that is not what it must be; `where` it stands in the request's body."""
    fields = [
        {"field": ".".join(map(str, (*where, *each["loc"]))) or "body", "message": each["msg"]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = f"{_clipped(fields[0]['field'], _LONGEST_NAME)}: {fields[0]['message']}"
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return error_body("invalid", first + more, fields)


def invalid_batch(bodies: Sequence[dict[str, Any]]) -> Refused:
    """A batch none of whose bids can be asked about, from the `invalid_body` of each."""
    refused = Refused(422, "invalid", bodies[0]["message"])
    refused.fields = [field for body in bodies for field in body["fields"]]
    return refused


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def install(app: FastAPI) -> None:
    """Make the app answer every error that it knows in this shape; what it does not know is the guard's."""

    @app.exception_handler(ValidationError)
    async def _invalid(request: Request, error: ValidationError) -> Response:
        told = invalid_body(error)
        return problem(request, 422, told["code"], told["message"], told["fields"])

    @app.exception_handler(WrongColumns)
    async def _wrong_columns(request: Request, error: WrongColumns) -> Response:
        field = "features" if error.column is None else f"features.{error.column}"
        return problem(request, 422, "invalid", str(error), [{"field": field, "message": str(error)}])

    @app.exception_handler(Refused)
    async def _refused(request: Request, error: Refused) -> Response:
        return problem(request, error.status, error.code, error.message, error.fields)

    @app.exception_handler(NotReady)
    async def _not_ready(request: Request, error: NotReady) -> Response:
        return problem(request, 503, "not ready", str(error), headers={"Retry-After": "5"})

    @app.exception_handler(DatabaseUnreachableError)
    @app.exception_handler(DatabaseRefusalError)
    @app.exception_handler(ContractError)
    async def _database(request: Request, error: Exception) -> Response:
        return problem(request, 503, "database", str(error), headers={"Retry-After": "5"})

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "refused")
        return problem(request, error.status_code, code, str(error.detail), headers=error.headers)
