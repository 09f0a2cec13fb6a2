"""Checkpoints of a job: listed, pinned, verified, deleted, downloaded."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from steep.artifacts.abandoned import unpin_set_aside
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.server.auth import Here, Member, Viewer
from steep.server.evaluating import order_evaluation
from steep.server.filelists import checkpoint_file, checkpoint_files
from steep.server.keeping import prune
from steep.server.promises import PromisingRoute
from steep.server.removal import delete_checkpoint
from steep.server.routes.answers import BYTES, Paging, answer, file_answer, problems
from steep.server.routes.jobs import Job, seen
from steep.server.routes.repeats import RepeatKey, repeat_of
from steep.server.service import Service
from steep.spec.api.checkpoints import CheckpointView, EvaluationRequest, Freed, PinRequest, Pruned, PruneRequest
from steep.spec.api.common import Page
from steep.spec.api.files import StoredFile
from steep.spec.api.jobs import JobView
from steep.spec.errors import DamagedArtifact

router = APIRouter(prefix="/jobs/{job}/checkpoints", tags=["checkpoints"], route_class=PromisingRoute)

Step = Annotated[int, Path(ge=0, le=2**31 - 1, description="Step of the checkpoint.")]


@router.get("", summary="List a job's checkpoints", response_model=Page[CheckpointView], responses=problems(404))
def list_checkpoints(
    here: Here, caller: Viewer, job: Job, page: Paging,
    deleted: Annotated[bool, Query(description="Deleted ones too, for what was measured on them.")] = False,
) -> Response:  # fmt: skip
    """By step, with what was measured on each."""
    seen(here, caller, job)
    return answer(here.store.checkpoints.list(job, page, with_deleted=deleted))


@router.post("/prune", summary="Delete what need not be kept", response_model=Pruned, responses=problems(404, 409))
def prune_job(here: Here, caller: Member, job: Job, request: PruneRequest) -> Response:
    """All but the newest and the best, pinned ones, the selected one, and those that something descends from. What was set
    aside by going back goes too."""
    seen(here, caller, job)
    pruned = prune(
        here,
        job,
        keep_last=request.keep_last,
        keep_best=request.keep_best,
        why=f"deleted: {caller.key.name} keeps the last {request.keep_last} and the best {request.keep_best}",
        only_set_aside=request.only_set_aside,
        dry_run=request.dry_run,
    )
    return answer(pruned)


@router.get("/{step}", summary="A checkpoint", response_model=CheckpointView, responses=problems(404))
def show(here: Here, caller: Viewer, job: Job, step: Step) -> Response:
    """A deleted one too."""
    seen(here, caller, job)
    return answer(here.store.checkpoints.get(job, step))


@router.patch("/{step}", summary="Pin or unpin", response_model=CheckpointView, responses=problems(404, 409))
def pin(here: Here, caller: Member, job: Job, step: Step, request: PinRequest) -> Response:
    """Retention never deletes a pinned one. Of what was set aside when the job went back, a pin can be taken away."""
    seen(here, caller, job)
    is_there = step in _catalog(here, job).steps()
    if not (request.pinned or is_there) and unpin_set_aside(here.run(job).checkpoints, step):
        return answer(here.store.checkpoints.get(job, step))
    view = here.store.checkpoints.pin(job, step, request.pinned, here.now())
    catalog = _catalog(here, job)
    if step in catalog.steps():
        (catalog.pin if request.pinned else catalog.unpin)(step)
    return answer(view)


@router.delete("/{step}", summary="Delete a checkpoint", response_model=Freed, responses=problems(404, 409))
def delete(here: Here, caller: Member, job: Job, step: Step) -> Response:
    """Its bytes go. What was measured on it stays."""
    seen(here, caller, job)
    return answer(delete_checkpoint(here, job, step))


@router.post("/{step}/verify", summary="Read it back", response_model=CheckpointView, responses=problems(404, 409))
def verify(here: Here, caller: Member, job: Job, step: Step) -> Response:
    """Every byte is compared with the manifest's hashes, which takes as long as reading does."""
    seen(here, caller, job)
    view = here.store.checkpoints.get(job, step)
    if view.state == "deleted":
        return answer(view)
    try:
        _catalog(here, job).verify(step)
    except DamagedArtifact as error:
        return answer(here.store.checkpoints.verified(job, step, "damaged", str(error), here.now()))
    return answer(here.store.checkpoints.verified(job, step, "valid", f"step {step} read back", here.now()))


@router.post(
    "/{step}/evaluations", summary="Measure it on other tasks and texts", response_model=JobView, status_code=201,
    responses=problems(404, 409),
)  # fmt: skip
def evaluate(
    here: Here, caller: Member, job: Job, step: Step, request: EvaluationRequest, idempotency_key: RepeatKey = None
) -> Response:
    """A job of its own, queued like any other. What it measures goes to the checkpoint's `scores`."""
    seen(here, caller, job)
    wanted = repeat_of(idempotency_key, f"evaluate {job} {step} {request.model_dump_json()}", caller)
    return answer(order_evaluation(here, caller, job, step, request, wanted), 201)


@router.get(
    "/{step}/files", summary="Files of a checkpoint", response_model=Page[StoredFile], responses=problems(404, 409)
)
def list_files(here: Here, caller: Viewer, job: Job, step: Step, page: Paging) -> Response:
    """With their hashes; the manifest is the last of them."""
    seen(here, caller, job)
    files = checkpoint_files(here.run(job), step)
    begin = (page.page - 1) * page.page_size
    rest = files[begin:]
    return answer(
        Page(
            items=tuple(rest[: page.page_size]),
            page=page.page,
            page_size=page.page_size,
            has_more=len(rest) > page.page_size,
        )
    )


@router.get(
    "/{step}/files/{path:path}", summary="Download a file of a checkpoint", response_class=Response,
    responses={**BYTES, **problems(404, 409, 416)},
)  # fmt: skip
def content(here: Here, caller: Viewer, job: Job, step: Step, path: Annotated[str, Path(max_length=1000)]) -> Response:
    """The header Range gives a part of it, so that a download can go on. Nothing of a damaged one is given out."""
    seen(here, caller, job)
    here.store.checkpoints.require_sound(job, step)
    return file_answer(checkpoint_file(here.run(job), step, path), path)


def _catalog(here: Service, job: str) -> CheckpointCatalog:
    return here.run(job).catalog()
