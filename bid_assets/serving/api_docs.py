"""The page at `/docs`: Swagger UI from files of the package fastapi-offline, so that it works without internet.

The page, its files and the OpenAPI description hold no data and need no key: a browser that opens a page cannot send one.
Requests from the page need a key like any other, the one given to its Authorize button.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

DOCS, OPENAPI, ASSETS = "/docs", "/openapi.json", "/docs-assets"
DESCRIPTION_PATHS = (DOCS, OPENAPI, *(f"{ASSETS}/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")))
"""The page, its files and the OpenAPI description."""

_SCHEMES = {
    "APIKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}


def new_app(**options: Any) -> FastAPI:
    """A FastAPI app with this page; `options` are FastAPI's."""
    app = FastAPIOffline(docs_url=DOCS, redoc_url=None, openapi_url=OPENAPI, static_url=ASSETS, **options)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        description = describe()
        description["components"]["securitySchemes"] = _SCHEMES
        description["security"] = [{name: []} for name in _SCHEMES]
        return description

    app.openapi = openapi  # type: ignore[method-assign]
    return app
