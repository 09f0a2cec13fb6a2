"""Models that complete prompts: the base that comes with Steep, and what jobs have made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from steep.server.auth import Here, Member, Viewer
from steep.server.openai.errors import errors
from steep.server.openai.jobs import KIND
from steep.server.openai.lists import ProjectHeader, list_of
from steep.server.openai.names import checkpoint_name, export_name, find_model, packaged_model
from steep.server.openai.shapes import Deleted, ListAnswer, ModelObject
from steep.server.promises import PromisingRoute
from steep.server.routes.answers import answer
from steep.server.service import Service
from steep.server.store.job_views import JobFilter
from steep.server.store.paging import PageRequest
from steep.spec.api.jobs import JobView
from steep.spec.errors import Forbidden
from steep.spec.states import State

router = APIRouter(prefix="/models", tags=["openai_models"], route_class=PromisingRoute)

MOST_JOBS = 200

Name = Annotated[str, Path(description="`tiny-base`, `ft:JOB` or `ft:JOB:step-N`.", max_length=300)]


@router.get("", summary="List models", response_model=ListAnswer[ModelObject], responses=errors())
def list_models(here: Here, caller: Viewer, project: ProjectHeader = None) -> Response:
    """Exports and checkpoints of jobs that have succeeded, the newest 200 jobs first, without what is damaged. Checkpoints of
    others can be retrieved and used too."""
    chosen = JobFilter((State.SUCCEEDED,), projects=caller.projects_within(project), kind=KIND)
    jobs = here.store.jobs.list(here.now(), chosen, PageRequest(page_size=MOST_JOBS))
    return answer(list_of(_models(here, jobs.items), has_more=jobs.has_more))


@router.get("/{model:path}", summary="A model", response_model=ModelObject, responses=errors(404))
def retrieve(here: Here, caller: Viewer, model: Name) -> Response:
    """Whose it is, and since when."""
    found = find_model(here, caller, model)
    return answer(ModelObject(id=found.name, created=int(found.created_at), owned_by=found.owner))


@router.delete("/{model:path}", summary="Models are deleted elsewhere", response_model=Deleted, responses=errors(404))
def delete(here: Here, caller: Member, model: Name) -> Response:
    """Always refused: an export goes with its job, and a checkpoint is deleted below `/api/v1`, where it tells what it frees."""
    found = find_model(here, caller, model)
    cure = "It comes with Steep."
    if found.step is not None:
        cure = f"`steep checkpoints delete {found.directory.name} {found.step}` deletes the checkpoint."
    elif found.name.startswith("ft:"):
        cure = f"`steep jobs delete {found.directory.parent.name}` deletes the job and all that it has made."
    raise Forbidden("models cannot be deleted here", where="model", cure=cure)


def _models(here: Service, jobs: Sequence[JobView]) -> Iterator[ModelObject]:
    base = packaged_model()
    yield ModelObject(id=base.name, created=int(base.created_at), owned_by=base.owner)
    checkpoints = here.store.checkpoints.usable([job.id for job in jobs])
    for job in jobs:
        if job.outcome.has_export:
            created = int(job.ended_at or job.created_at)
            yield ModelObject(id=export_name(job.id), created=created, owned_by=job.project)
        for step, saved_at in checkpoints[job.id]:
            yield ModelObject(id=checkpoint_name(job.id, step), created=int(saved_at), owned_by=job.project)
