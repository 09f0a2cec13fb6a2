"""Jobs: submitted, listed, looked at, steered, deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query
from fastapi.responses import Response

from steep.server.auth import Admin, Caller, Here, Member, Viewer
from steep.server.deriving import branch_job, clone_spec, require_below, rollback_job
from steep.server.loops.limits import usage_of
from steep.server.losing import declare_lost
from steep.server.promises import PromisingRoute
from steep.server.removal import remove_job
from steep.server.routes.answers import Paging, answer, problems
from steep.server.routes.examples import JOB
from steep.server.routes.repeats import RepeatKey, repeat_of
from steep.server.service import Service
from steep.server.store.job_views import JobFilter, JobOwner
from steep.server.submission import order, plan
from steep.spec.api.checkpoints import Freed
from steep.spec.api.common import Page
from steep.spec.api.jobs import (
    BranchRequest,
    CloneRequest,
    JobChange,
    JobDetail,
    JobRequest,
    JobView,
    Plan,
    RollbackRequest,
)
from steep.spec.errors import Conflict, Forbidden
from steep.spec.states import Reason, State

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=PromisingRoute)

Job = Annotated[str, Path(description="Id of a job.", max_length=100)]


@router.post(
    "",
    summary="Submit a job",
    response_model=JobView,
    status_code=201,
    responses={200: {"model": Plan, "description": "The answer to a dry run."}, **problems()},
)
def create(
    here: Here,
    caller: Member,
    request: Annotated[JobRequest, Body(openapi_examples={"documentation": {"value": JOB}})],
    idempotency_key: RepeatKey = None,
    dry_run: Annotated[bool, Query(description="Validate everything, and answer what the job would take.")] = False,
) -> Response:
    """Queue a job. What the service needs to know stands in `spec.service`. Sources may be uploaded files
    (`steep://files/ID`), URLs, and paths below the server's roots."""
    if dry_run:
        return answer(plan(here, caller, request.spec))
    wanted = repeat_of(idempotency_key, request.model_dump_json(), caller)
    return answer(order(here, caller, request.spec, idempotency_key=wanted), 201)


@router.get("", summary="List jobs", response_model=Page[JobView], responses=problems())
def list_jobs(
    here: Here,
    caller: Viewer,
    page: Paging,
    state: Annotated[list[State] | None, Query(description="In one of these states.")] = None,
    tag: Annotated[list[str] | None, Query(description="With all of these tags.")] = None,
    project: Annotated[str | None, Query(description="Of this project.")] = None,
    name: Annotated[str | None, Query(description="With this in their name.")] = None,
    parent: Annotated[str | None, Query(description="Branches of this job.")] = None,
    paused: Annotated[bool | None, Query(description="Held, or not.")] = None,
) -> Response:
    """Jobs, the newest first unless something else is asked for."""
    projects = caller.projects_within(project)
    chosen = JobFilter(tuple(state or ()), tuple(tag or ()), projects, name, parent, paused)
    found = here.store.jobs.list(here.now(), chosen, page)
    return answer(found.model_copy(update={"items": here.queue_places.put(found.items, here.now())}))


@router.get("/{job}", summary="A job, its spec and its attempts", response_model=JobDetail, responses=problems(404))
def show(here: Here, caller: Viewer, job: Job) -> Response:
    """Everything that is known of a job."""
    seen(here, caller, job)
    detail = here.store.jobs.detail(job, here.now())
    return answer(here.queue_places.put((detail,), here.now())[0])


@router.patch("/{job}", summary="Change a job", response_model=JobView, responses=problems(404, 409))
def change(here: Here, caller: Member, job: Job, request: JobChange) -> Response:
    """Its priority, tags or limits; what is not given stays."""
    seen(here, caller, job)
    view = here.store.jobs.change(job, request, here.now())
    here.bell.ring()
    return answer(view)


@router.post("/{job}/pause", summary="Save a checkpoint and hold", response_model=JobView, responses=problems(404, 409))
def pause(here: Here, caller: Member, job: Job) -> Response:
    """It waits until it is resumed, and keeps no GPU meanwhile."""
    return _ask_to_stop(here, caller, job, Reason.PAUSE_REQUESTED, "paused")


@router.post("/{job}/resume", summary="Let a held job go on", response_model=JobView, responses=problems(404, 409))
def resume(here: Here, caller: Member, job: Job) -> Response:
    """It goes on from its newest valid checkpoint, as soon as it gets devices."""
    seen(here, caller, job)
    view = here.store.jobs.get(job, here.now())
    if not view.standing.is_terminal:
        require_below(view, usage_of(view))
    here.store.jobs.release(job, here.now(), f"resumed by {caller.key.name}")
    here.bell.ring()
    return answer(here.store.jobs.get(job, here.now()))


@router.post("/{job}/cancel", summary="End a job", response_model=JobView, responses=problems(404, 409))
def cancel(here: Here, caller: Member, job: Job) -> Response:
    """What it has made stays."""
    return _ask_to_stop(here, caller, job, Reason.CANCEL_REQUESTED, "cancelled")


@router.post(
    "/{job}/declare-lost",
    summary="Say that a worker's machine is gone for good",
    response_model=JobView,
    responses=problems(404, 409),
)
def lose(here: Here, caller: Admin, job: Job) -> Response:
    """For an attempt that was fenced and whose machine cannot be asked: its devices are lent again, and the job goes on
    elsewhere, or ends if that was asked. Whatever may still run on that machine goes on with what it has there."""
    seen(here, caller, job)
    if caller.project is not None:
        raise Forbidden("a key of one project does not say what has become of machines", where="Authorization")
    declare_lost(here, job, caller.key.name)
    return answer(here.store.jobs.get(job, here.now()))


@router.post(
    "/{job}/clone",
    summary="Submit a job like another",
    response_model=JobView,
    status_code=201,
    responses=problems(404),
)
def clone(here: Here, caller: Member, job: Job, request: CloneRequest, idempotency_key: RepeatKey = None) -> Response:
    """A new job with the same spec, and with what `set` changes by dotted path."""
    if seen(here, caller, job).kind == "evaluation":
        raise Conflict(
            "an evaluation cannot be cloned", where=job, cure="`steep checkpoints evaluate` orders a new one."
        )
    spec = clone_spec(here.store.jobs.spec(job), request.name, request.set)
    wanted = repeat_of(idempotency_key, f"clone {job} {request.model_dump_json()}", caller)
    return answer(order(here, caller, spec, idempotency_key=wanted), 201)


@router.post(
    "/{job}/branch", summary="Go on from a checkpoint, as a new job", response_model=JobView, status_code=201,
    responses=problems(404, 409),
)  # fmt: skip
def branch(here: Here, caller: Member, job: Job, request: BranchRequest, idempotency_key: RepeatKey = None) -> Response:
    """The new job has the checkpoint's whole state; the other one stays as it is."""
    seen(here, caller, job)
    wanted = repeat_of(idempotency_key, f"branch {job} {request.model_dump_json()}", caller)
    return answer(branch_job(here, caller, job, request, wanted), 201)


@router.post("/{job}/rollback", summary="Go back to a checkpoint", response_model=JobView, responses=problems(404, 409))
def rollback(here: Here, caller: Member, job: Job, request: RollbackRequest) -> Response:
    """Later checkpoints are set aside, and training goes on from there. The job must be paused."""
    seen(here, caller, job)
    return answer(rollback_job(here, caller, job, request.step))


@router.delete("/{job}", summary="Delete a job", response_model=Freed, responses=problems(404, 409))
def delete(here: Here, caller: Member, job: Job) -> Response:
    """A job that has ended goes, with all its files."""
    seen(here, caller, job)
    return answer(remove_job(here, job))


def seen(here: Service, caller: Caller, job: str) -> JobOwner:
    """Whose a job is, which the key must see.

    Raises:
        NotFound: there is none, or it is another project's: nobody learns which.
    """
    owner = here.store.jobs.owner(job)
    caller.must_see(owner.project, f"job {job}")
    return owner


def _ask_to_stop(here: Service, caller: Caller, job: str, reason: Reason, word: str) -> Response:
    seen(here, caller, job)
    here.store.jobs.request_stop(job, reason, f"{word} by {caller.key.name}", here.now())
    here.bell.ring()
    return answer(here.store.jobs.get(job, here.now()))
