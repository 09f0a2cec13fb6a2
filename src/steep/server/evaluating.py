"""Checkpoints measured later, on other tasks and texts: a job of its own, whose numbers go to the checkpoint."""

from __future__ import annotations

import logging

from steep.artifacts.later import prepare_evaluation, read_scores
from steep.server.admission import admit, resolve
from steep.server.auth import Caller
from steep.server.removal import remove_tree
from steep.server.service import Service
from steep.server.store.ids import new_id
from steep.server.store.submissions import Idempotency
from steep.server.submission import order
from steep.spec.api.checkpoints import EvaluationRequest
from steep.spec.api.jobs import JobView
from steep.spec.errors import Conflict, DamagedArtifact, NotFound
from steep.spec.job import JobSpec, Replay
from steep.spec.service import Service as ServicePart

log = logging.getLogger(__name__)


def order_evaluation(
    service: Service, caller: Caller, job_id: str, step: int, request: EvaluationRequest, wanted: Idempotency | None
) -> JobView:
    """Queue a job that measures a checkpoint.

    Raises:
        NotFound: there is no such checkpoint.
        Conflict: it is deleted or damaged.
        InvalidSpec: a text or a task file lies where jobs may not read.
    """
    view = service.store.checkpoints.get(job_id, step)
    if view.state == "deleted":
        raise Conflict(f"the checkpoint of step {step} is deleted", where=job_id, cure="Choose another one.")
    service.store.checkpoints.require_sound(job_id, step)
    spec = evaluation_spec(service.store.jobs.spec(job_id), step, request)
    new = new_id("job")
    place = service.settings.run_directory(new)
    resolved = _admitted(spec, caller, service)
    try:
        prepare_evaluation(service.run(job_id), step, place, resolved)
        made = order(
            service, caller, spec, idempotency_key=wanted, parent=(job_id, step), job_id=new, kind="evaluation"
        )
    except BaseException:
        remove_tree(place)
        raise
    if made.id != new:  # the same order was made before
        remove_tree(place)
    return made


def evaluation_spec(spec: JobSpec, step: int, request: EvaluationRequest) -> JobSpec:
    """The spec of a job that measures a checkpoint of another: what it was made with, and what to measure it on."""
    old = spec.service
    gpus = old.gpu_count if not old.gpu_count else 1
    part = ServicePart(
        project=old.project, priority=request.priority, gpu=old.gpu, gpu_count=gpus, location=old.location
    )
    measures = {"tasks": request.tasks, "general": request.texts, "task_limit": request.task_limit}
    return spec.model_copy(
        update={
            "deadline": None,
            "name": request.name or f"{spec.name[:80]}-step-{step}",
            "service": part,
            "evaluation": spec.evaluation.model_copy(update=measures),
        }
    )


def _admitted(spec: JobSpec, caller: Caller, service: Service) -> JobSpec:
    """The spec as the worker reads it. What it was trained on is not read again, and may be gone by now."""
    untrained = spec.corpus.model_copy(update={"sources": ()})
    measuring = admit(spec.model_copy(update={"corpus": untrained, "replay": Replay()}), caller, service)
    return resolve(measuring, service).model_copy(update={"corpus": spec.corpus, "replay": spec.replay})


def record_scores(service: Service, job_id: str) -> None:
    """Write down what such a job measured, at the checkpoint that it measured. Doing it twice is doing it once."""
    if service.store.jobs.owner(job_id).kind != "evaluation":
        return
    view = service.store.jobs.get(job_id, service.now())
    try:
        scores = read_scores(service.run(job_id))
        if view.parent is None or view.parent_step is None or scores is None:
            log.warning("%s: it has measured nothing that could be written down", job_id)
            return
        service.store.checkpoints.add_scores(view.parent, view.parent_step, scores, job_id, service.now())
    except NotFound:
        log.info("%s: the checkpoint that it measured is not there any more", job_id)
    except DamagedArtifact as error:
        log.warning("%s: %s", job_id, error)
