"""Projects: whose things are whose, and what each may use."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path
from fastapi.responses import Response

from steep.server.auth import Admin, Caller, Here, Viewer
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import Paging, answer, problems
from steep.server.routes.repeats import RepeatKey, repeat_of
from steep.spec.api.common import Page
from steep.spec.api.projects import ProjectRequest, ProjectView
from steep.spec.errors import Forbidden, InvalidInput

router = APIRouter(prefix="/projects", tags=["projects"], route_class=PromisingRoute)

_EXAMPLE = {"name": "search", "share": 2.0, "quota": {"gpus": 8, "jobs": 20, "stored_bytes": 2_000_000_000_000}}


@router.get("", summary="List projects", response_model=Page[ProjectView], responses=problems())
def list_projects(here: Here, caller: Viewer, page: Paging) -> Response:
    """Those that the key sees, with what they use."""
    return answer(here.store.projects.list(page, names=caller.projects))


@router.post("", summary="Make a project", response_model=ProjectView, status_code=201, responses=problems(409))
def create(
    here: Here,
    caller: Admin,
    request: Annotated[ProjectRequest, Body(openapi_examples={"team": {"value": _EXAMPLE}})],
    idempotency_key: RepeatKey = None,
) -> Response:
    """With its share in fair sharing, its quota, and what it keeps of jobs that have ended."""
    _of_all(caller)
    once = repeat_of(idempotency_key, request.model_dump_json(), caller, "projects")
    return answer(here.store.projects.create(request, here.now(), once=once), 201)


@router.patch("/{name}", summary="Change a project", response_model=ProjectView, responses=problems(404))
def change(
    here: Here,
    caller: Admin,
    name: Annotated[str, Path(description="Of the project.", max_length=40)],
    request: ProjectRequest,
) -> Response:
    """Its share, its quota or what it keeps; what is not given stays."""
    _of_all(caller)
    if request.name != name:
        raise InvalidInput("a project keeps its name", where="name", cure=f"Write {name} there too.")
    view = here.store.projects.change(request, here.now())
    here.bell.ring()
    return answer(view)


def _of_all(caller: Caller) -> None:
    if caller.project is not None:
        raise Forbidden("a key of one project does not manage projects", where="Authorization")
