"""The ASGI application: life cycle of the service, its endpoints, and the guard around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.types import ASGIApp

from bid_assets.serving import problems
from bid_assets.serving.metrics import Metrics
from bid_assets.serving.routes import router
from bid_assets.serving.service import PredictionService
from bid_assets.settings import Settings, get_settings

THREADS = 4
"""Look-ups of one worker at a time, each on a connection of its own."""

DESCRIPTION = """The probability that a bid will succeed, from the active model, with the very features that training used.

Every error has one shape: `{"error": {"code", "message", "request_id", "fields"}}`."""


def create_app(settings: Settings) -> ASGIApp:
    """The service over the databases and the store of these settings. It loads what serves when it is started."""
    metrics = Metrics()

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="answer") as threads:
            service = await loop.run_in_executor(threads, PredictionService, settings, metrics)
            app.state.service, app.state.threads = service, threads
            await loop.run_in_executor(threads, service.start)
            try:
                yield
            finally:
                await loop.run_in_executor(threads, service.close)

    app = FastAPI(title="bid_assets", version=version("bid-assets"), description=DESCRIPTION, lifespan=living)
    problems.install(app)
    app.include_router(router)
    return app


def from_environment() -> ASGIApp:
    """For uvicorn, whose workers make their own."""
    return create_app(get_settings())
