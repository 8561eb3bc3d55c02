"""Everything that keeps a request from an answer, in one shape: `{"error": {code, message, request_id, fields?}}`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from bid_assets.app_db.contract import ContractError
from bid_assets.app_db.database import DatabaseUnreachable
from bid_assets.modelling.preprocess import WrongColumns
from bid_assets.serving.service import NotReady

_CODES = {404: "not found", 405: "method not allowed"}


class Refused(Exception):
    """A request that gets no answer: status, code and message, and the field that is to blame."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field


def problem(
    request: Request, status: int, code: str, message: str, fields: Sequence[dict[str, str]] = (), headers: Any = None
) -> Response:
    """The response that says so."""
    told: dict[str, Any] = {"code": code, "message": message, "request_id": getattr(request.state, "request_id", None)}
    if fields:
        told["fields"] = list(fields)
    return Response(orjson.dumps({"error": told}), status, headers=headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Make the app answer every error that it knows in this shape; what it does not know is the guard's."""

    @app.exception_handler(ValidationError)
    async def _invalid(request: Request, error: ValidationError) -> Response:
        fields = [
            {"field": ".".join(str(part) for part in each["loc"]) or "body", "message": each["msg"]} for each in error.errors()
        ]
        first = f"{fields[0]['field']}: {fields[0]['message']}"
        more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
        return problem(request, 422, "invalid", first + more, fields)

    @app.exception_handler(WrongColumns)
    async def _wrong_columns(request: Request, error: WrongColumns) -> Response:
        field = "features" if error.column is None else f"features.{error.column}"
        return problem(request, 422, "invalid", str(error), [{"field": field, "message": str(error)}])

    @app.exception_handler(Refused)
    async def _refused(request: Request, error: Refused) -> Response:
        fields = [] if error.field is None else [{"field": error.field, "message": error.message}]
        return problem(request, error.status, error.code, error.message, fields)

    @app.exception_handler(NotReady)
    async def _not_ready(request: Request, error: NotReady) -> Response:
        return problem(request, 503, "not ready", str(error), headers={"Retry-After": "5"})

    @app.exception_handler(DatabaseUnreachable)
    @app.exception_handler(ContractError)
    async def _database(request: Request, error: Exception) -> Response:
        return problem(request, 503, "database", str(error), headers={"Retry-After": "5"})

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "refused")
        return problem(request, error.status_code, code, str(error.detail), headers=error.headers)
