"""The HTTP application: all routes, and what every request goes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import Lifespan

from steep import __version__
from steep.server import probes
from steep.server.audit import AuditTrail
from steep.server.openai.errors import tell_errors
from steep.server.openai.pool import Pool
from steep.server.openai.router import UPLOAD_PATH
from steep.server.openai.router import router as openai
from steep.server.problems import tell_problems
from steep.server.promises import promise_all
from steep.server.requesttraces import TraceRequests
from steep.server.routes import (
    attempts,
    checkpoints,
    events,
    files,
    house,
    jobs,
    keys,
    outputs,
    projects,
)
from steep.server.security import Guard, Shield
from steep.server.service import Service
from steep.server.tracing import NoTraces
from steep.server.workerline import WorkerLine

BASE = "/api/v1"
NOUNS = (jobs, events, outputs, checkpoints, files, attempts, keys, projects, house)


def make_app(
    service: Service, *, on_start: Callable[[], None] = lambda: None, on_end: Callable[[], None] = lambda: None
) -> FastAPI:
    """The application of a service.

    Args:
        service: what it serves.
        on_start: called when it begins to serve.
        on_end: called when it has served its last request.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        on_start()
        try:
            async with Pool(service) as app.state.pool:
                yield
        finally:
            await asyncio.to_thread(on_end)

    app = routed_app(lifespan)
    app.state.service = service
    app.state.guard = Guard(service.settings.bounds)
    tell_problems(app)
    app.add_middleware(AuditTrail, service=service)
    app.add_middleware(WorkerLine, service=service)
    app.add_middleware(Shield, bounds=service.settings.bounds, upload_paths=frozenset({f"{BASE}/files", UPLOAD_PATH}))
    tell_errors(app)
    if not isinstance(service.traces, NoTraces):
        app.add_middleware(TraceRequests, traces=service.traces)
    return app


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return _document()


@cache
def _document() -> dict[str, Any]:
    promise_all()
    return _routed(FastAPI, None).openapi()


def routed_app(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """All routes and their document, with nothing behind them."""
    return _routed(_Application, lifespan)


def _routed(kind: type[FastAPI], lifespan: Lifespan[FastAPI] | None) -> FastAPI:
    app = kind(
        title="Steep",
        version=__version__,
        summary="Continued pretraining of language models as a managed job.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=_operation_id,
    )
    # Probes first: what comes before a route is made ready with it when it is first asked for, and a start waits for that.
    app.include_router(probes.router)
    for noun in NOUNS:
        app.include_router(noun.router, prefix=BASE)
    app.include_router(openai)
    return app


def _operation_id(route: APIRoute) -> str:
    """Such as `jobs_create`: what generated clients call it."""
    return "_".join([*map(str, route.tags), route.name])
