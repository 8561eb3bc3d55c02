"""The ASGI application: lifespan of the service, its endpoints, and the request middleware around them."""

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

from bid_assets.common.private_state import restrict_umask
from bid_assets.serving import errors
from bid_assets.serving.api_docs import DESCRIPTION_PATHS, new_app
from bid_assets.serving.micro_batching import MicroBatcher
from bid_assets.serving.middleware.access_log import JsonLog
from bid_assets.serving.middleware.api_keys import ADMIN, KEYS_REQUIRED, PREDICT, ApiKeyStore
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.serving.middleware.request_guard import RequestLimits, RequestMiddleware
from bid_assets.serving.prediction_service import PredictionService
from bid_assets.serving.routes import ADMIN_PATHS, OPEN_PATHS, predictions_router, service_router
from bid_assets.settings import Settings, get_settings

WORKER_THREADS = 2
"""Threads of one worker beside its event loop, each with a connection of its own: one for micro-batches of single bids
(`micro_batching.py`), one for a batch or an explanation. They hold the interpreter's lock: more threads, fewer requests/s."""
SWITCH_SECONDS = 0.0005
"""The interpreter's switch interval: a tenth of Python's default, which is longer than a prediction takes."""

DESCRIPTION = """The probability that a bid will succeed, from the active model, with the very features that training used.

Every error has one shape: `{"error": {"code", "message", "request_id", "fields"}}`."""


def create_app(settings: Settings) -> FastAPI:
    """The application over the databases and the store of these settings. Its lifespan loads the models that serve."""
    metrics, log = Metrics(), JsonLog()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        log.install()
        with ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="predict") as threads:
            service = await loop.run_in_executor(threads, PredictionService, settings, metrics)
            app.state.service, app.state.threads, app.state.batcher = service, threads, MicroBatcher(service.predict, threads)
            await loop.run_in_executor(threads, service.start)
            gc.freeze()  # what is loaded by now stays; collecting it would delay responses by a tenth of a second
            try:
                yield
            finally:
                await loop.run_in_executor(threads, service.close)
                log.close()

    app = new_app(title="bid_assets", version=version("bid-assets"), description=DESCRIPTION, lifespan=lifespan)
    errors.add_error_handlers(app)
    # include_router would match every request twice
    app.router.routes[:0] = [*predictions_router.routes, *service_router.routes]
    app.add_middleware(
        RequestMiddleware,
        scopes=_required_scopes(),
        key_store=ApiKeyStore(settings.resolved_api_keys, required=KEYS_REQUIRED in os.environ),
        limits=RequestLimits.from_settings(settings),
        log=log,
        metrics=metrics,
    )
    return app


def _required_scopes() -> dict[str, str | None]:
    """Every path, and the scope that it requires; None: no authentication."""
    scopes: dict[str, str | None] = dict.fromkeys(DESCRIPTION_PATHS, None)
    for route in (*predictions_router.routes, *service_router.routes):
        if isinstance(route, APIRoute):
            scopes[route.path] = ADMIN if route.path in ADMIN_PATHS else None if route.path in OPEN_PATHS else PREDICT
    return scopes


def from_environment() -> FastAPI:
    """The application with the settings of the environment: uvicorn's factory in each worker."""
    restrict_umask()
    sys.setswitchinterval(SWITCH_SECONDS)
    return create_app(get_settings())
