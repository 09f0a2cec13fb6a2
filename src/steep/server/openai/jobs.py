"""Jobs of continued pretraining, as OpenAI's API has jobs of fine-tuning: the same jobs as below `/api/v1/jobs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from steep.server.auth import Caller, Here, Member, Viewer
from steep.server.openai.errors import errors
from steep.server.openai.lists import After, Limit, ProjectHeader, list_of, metadata_of
from steep.server.openai.ordering import in_their_words, spec_of
from steep.server.openai.shapes import CheckpointObject, JobEvent, JobObject, JobOrder, ListAnswer
from steep.server.openai.showing import CHECKPOINT_ID, EVENT_ID, checkpoint_object, event_object, job_object
from steep.server.promises import PromisingRoute
from steep.server.routes import jobs as native
from steep.server.routes.answers import answer
from steep.server.routes.repeats import RepeatKey, repeat_of
from steep.server.service import Service
from steep.server.store.job_views import JobFilter
from steep.server.store.paging import PageRequest
from steep.server.submission import order
from steep.spec.errors import InvalidInput, InvalidSpec, NotFound

router = APIRouter(prefix="/fine_tuning/jobs", tags=["openai_jobs"], route_class=PromisingRoute)

KIND = "training"

Job = Annotated[str, Path(description="Id of a job.", max_length=100)]


@router.post("", summary="Submit a job", response_model=JobObject, responses=errors(409))
def create(
    here: Here, caller: Member, wanted: JobOrder, project: ProjectHeader = None, idempotency_key: RepeatKey = None
) -> Response:
    """Queue a job that goes on with pretraining: `method.type` is `continued_pretraining`. The training file is the text to
    learn, of which a part is held out to measure what was; the validation file is general text, on which forgetting is
    measured. `method.continued_pretraining` takes what a job spec takes."""
    spec = spec_of(here, caller, wanted, project)
    once = repeat_of(idempotency_key, f"openai {spec.service.project} {wanted.model_dump_json()}", caller)
    try:
        view = order(here, caller, spec, idempotency_key=once)
    except InvalidSpec as error:
        raise in_their_words(error) from error
    return _shown(here, view.id)


@router.get("", summary="List jobs", response_model=ListAnswer[JobObject], responses=errors())
def list_jobs(
    here: Here, caller: Viewer, request: Request, project: ProjectHeader = None, after: After = None, limit: Limit = 20
) -> Response:
    """The newest first. `metadata[key]=value` chooses."""
    chosen = JobFilter(tags=metadata_of(request.query_params), projects=caller.projects_within(project), kind=KIND)
    found = here.store.jobs.list(here.now(), chosen, PageRequest(page_size=limit, after=after))
    return answer(
        list_of((job_object(job, here.store.jobs.spec(job.id)) for job in found.items), has_more=found.has_more)
    )


@router.get("/{job}", summary="A job", response_model=JobObject, responses=errors(404))
def retrieve(here: Here, caller: Viewer, job: Job) -> Response:
    """How it stands."""
    _require(here, caller, job)
    return _shown(here, job)


@router.post("/{job}/cancel", summary="End a job", response_model=JobObject, responses=errors(404, 409))
def cancel(here: Here, caller: Member, job: Job) -> Response:
    """What it has made stays."""
    return _steered(here, caller, job, native.cancel)


@router.post("/{job}/pause", summary="Save and hold", response_model=JobObject, responses=errors(404, 409))
def pause(here: Here, caller: Member, job: Job) -> Response:
    """It saves a checkpoint, and keeps no GPU until it is resumed."""
    return _steered(here, caller, job, native.pause)


@router.post("/{job}/resume", summary="Let a held job go on", response_model=JobObject, responses=errors(404, 409))
def resume(here: Here, caller: Member, job: Job) -> Response:
    """It goes on from its newest valid checkpoint."""
    return _steered(here, caller, job, native.resume)


@router.get("/{job}/events", summary="What happened", response_model=ListAnswer[JobEvent], responses=errors(404))
def events(here: Here, caller: Viewer, job: Job, after: After = None, limit: Limit = 20) -> Response:
    """The newest first."""
    _require(here, caller, job)
    known = _number(after, EVENT_ID)
    page = PageRequest(page_size=limit, sort_by="id", descending=True, after=known)
    found = here.store.events.list(page, job_id=job)
    return answer(list_of(map(event_object, found.items), has_more=found.has_more))


@router.get(
    "/{job}/checkpoints", summary="Checkpoints", response_model=ListAnswer[CheckpointObject], responses=errors(404)
)
def checkpoints(here: Here, caller: Viewer, job: Job, after: After = None, limit: Limit = 10) -> Response:
    """The newest first, with what was measured on each."""
    _require(here, caller, job)
    known = _number(after, f"{CHECKPOINT_ID}{job}-")
    page = PageRequest(page_size=limit, sort_by="step", descending=True, after=known)
    found = here.store.checkpoints.list(job, page)
    return answer(list_of(map(checkpoint_object, found.items), has_more=found.has_more))


def _require(here: Service, caller: Caller, job: str) -> None:
    """There must be such a job, and it must be one that trains.

    Raises:
        NotFound: there is none, or not for this key, or it measures a checkpoint of another one.
    """
    if native.seen(here, caller, job).kind != KIND:
        raise NotFound(f"job {job} measures a checkpoint and trains nothing", cure="/api/v1/jobs knows it.")


def _steered(here: Service, caller: Caller, job: str, steer: Callable[[Service, Caller, str], Response]) -> Response:
    _require(here, caller, job)
    steer(here, caller, job)
    return _shown(here, job)


def _shown(here: Service, job: str) -> Response:
    return answer(job_object(here.store.jobs.get(job, here.now()), here.store.jobs.spec(job)))


def _number(after: str | None, prefix: str) -> int | None:
    """The number in the id of an item.

    Raises:
        InvalidInput: it is no such id.
    """
    if after is None:
        return None
    number = after.removeprefix(prefix)
    if number == after or not number.isdecimal() or len(number) > 15:
        raise InvalidInput("is the id of nothing in this list", where="after", cure="Take one from an earlier answer.")
    return int(number)
