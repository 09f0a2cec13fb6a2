"""For machines that look after the service: is it there, can it work, how much does it do."""

from __future__ import annotations

import json

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from steep.server.auth import Here, Viewer
from steep.server.measures import exposition
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import JSON, problems
from steep.spec.errors import Forbidden

router = APIRouter(tags=["probes"], route_class=PromisingRoute)


@router.get("/healthz", summary="Whether the process is there", response_class=PlainTextResponse)
def healthz() -> str:
    """Open to all; says nothing else."""
    return "ok"


@router.get(
    "/readyz",
    summary="Whether it can work",
    response_class=PlainTextResponse,
    responses={503: {"description": "Not now."}},
)
def readyz(here: Here) -> Response:
    """Open to all; whether the database answers, and nothing else."""
    ready = here.store.is_ready()
    return PlainTextResponse("ready" if ready else "the database does not answer", status_code=200 if ready else 503)


@router.get("/metrics", summary="Numbers for Prometheus", response_class=PlainTextResponse, responses=problems())
def metrics(here: Here, caller: Viewer) -> Response:
    """A key of all projects is needed, of any role."""
    if caller.project is not None:
        raise Forbidden("a key of one project does not see numbers of all", where="Authorization")
    text, media_type = exposition(here)
    return Response(text, media_type=media_type)


@router.get("/api/v1/openapi.json", summary="This document", include_in_schema=False)
def openapi(request: Request, caller: Viewer) -> Response:
    """The API as OpenAPI has it."""
    return Response(json.dumps(request.app.openapi()), media_type=JSON)
