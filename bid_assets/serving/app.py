"""The ASGI application: life cycle of the service, its endpoints, and the guard around them."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute

from bid_assets.common.private_state import keep_private
from bid_assets.serving import errors
from bid_assets.serving.api_docs import DESCRIPTION_PATHS, new_app
from bid_assets.serving.micro_batching import Together
from bid_assets.serving.middleware.access_log import JsonLog
from bid_assets.serving.middleware.api_keys import ADMIN, KEYS_REQUIRED, PREDICT, ApiKeyStore
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.serving.middleware.request_guard import RequestLimits, RequestMiddleware
from bid_assets.serving.prediction_service import PredictionService
from bid_assets.serving.routes import ADMIN_PATHS, OPEN_PATHS, predictions, router
from bid_assets.settings import Settings, get_settings

THREADS = 2
"""What one worker does beside its event loop, each on a connection of its own: single bids together (`micro_batching.py`), and one batch or
explanation. The work holds the interpreter's lock: more threads answer fewer requests."""
SWITCH_SECONDS = 0.0005
"""How long a thread that waits for the lock waits: a tenth of Python's own, which is longer than a prediction takes."""

DESCRIPTION = """The probability that a bid will succeed, from the active model, with the very features that training used.

Every error has one shape: `{"error": {"code", "message", "request_id", "fields"}}`."""


def create_app(settings: Settings) -> FastAPI:
    """The service over the databases and the store of these settings. It loads what serves when it is started."""
    metrics, log = Metrics(), JsonLog()

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        log.install()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="answer") as threads:
            service = await loop.run_in_executor(threads, PredictionService, settings, metrics)
            app.state.service, app.state.threads, app.state.together = service, threads, Together(service.predict, threads)
            await loop.run_in_executor(threads, service.start)
            gc.freeze()  # what is loaded by now stays; to look for garbage in it would hold up answers for a tenth of a second
            try:
                yield
            finally:
                await loop.run_in_executor(threads, service.close)
                log.close()

    app = new_app(title="bid_assets", version=version("bid-assets"), description=DESCRIPTION, lifespan=living)
    errors.install(app)
    app.router.routes[:0] = [*predictions.routes, *router.routes]  # include_router would match every request twice
    app.add_middleware(
        RequestMiddleware,
        scopes=_scopes(),
        key_store=ApiKeyStore(settings.resolved_api_keys, required=KEYS_REQUIRED in os.environ),
        limits=RequestLimits.from_settings(settings),
        log=log,
        metrics=metrics,
    )
    return app


def _scopes() -> dict[str, str | None]:
    """Every path, and the scope that it needs."""
    needs: dict[str, str | None] = dict.fromkeys(DESCRIPTION_PATHS, None)
    for route in (*predictions.routes, *router.routes):
        if isinstance(route, APIRoute):
            needs[route.path] = ADMIN if route.path in ADMIN_PATHS else None if route.path in OPEN_PATHS else PREDICT
    return needs


def from_environment() -> FastAPI:
    """For uvicorn, whose workers make their own."""
    keep_private()
    sys.setswitchinterval(SWITCH_SECONDS)
    return create_app(get_settings())
