"""Jobs, events and checkpoints as OpenAI's API shows them."""

from __future__ import annotations

from typing import Any, Literal

from steep.server.admission import UPLOADED
from steep.server.openai.names import checkpoint_name, export_name, name_of
from steep.server.openai.shapes import METHOD, METHOD_FIELDS, CheckpointObject, JobError, JobEvent, JobObject
from steep.spec.api.checkpoints import CheckpointView
from steep.spec.api.jobs import JobView
from steep.spec.events import Event, EventKind
from steep.spec.job import JobSpec, Source
from steep.spec.states import State

EVENT_ID = "ftevent-"
CHECKPOINT_ID = "ftckpt-"

_BAD = frozenset({EventKind.FAILED, EventKind.CHECKPOINT_DAMAGED})
_DOUBTFUL = frozenset(
    {
        EventKind.ALERT_FAILED,
        EventKind.FENCED,
        EventKind.FORGETTING_EXCEEDED,
        EventKind.GUARD_TRIGGERED,
        EventKind.LIMIT_REACHED,
        EventKind.LIMIT_WARNED,
        EventKind.LOSS_SPIKE,
        EventKind.PREEMPTED,
        EventKind.RETRIED,
        EventKind.ROLLED_BACK,
        EventKind.UNREACHABLE,
    }
)
_MEASURED = frozenset({EventKind.PROGRESS, EventKind.EVALUATED})

Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]


def job_object(job: JobView, spec: JobSpec) -> JobObject:
    """A job."""
    standing = job.standing
    failed = standing.state is State.FAILED
    succeeded = standing.state is State.SUCCEEDED
    dumped = spec.model_dump(mode="json", exclude_defaults=True)
    return JobObject(
        id=job.id,
        created_at=int(job.created_at),
        finished_at=None if job.ended_at is None else int(job.ended_at),
        estimated_finish=_estimated_finish(job),
        model=name_of(job.base),
        fine_tuned_model=export_name(job.id) if succeeded and job.outcome.has_export else None,
        organization_id=job.project,
        status=_status(job),
        status_details=standing.detail,
        error=JobError(code=str(standing.reason), message=standing.detail) if failed else None,
        training_file=_file(spec.corpus.sources[0]),
        validation_file=_file(spec.evaluation.general[0]) if spec.evaluation.general else None,
        hyperparameters=_hyperparameters(spec),
        method={"type": METHOD, METHOD: {name: dumped[name] for name in METHOD_FIELDS if name in dumped}},
        trained_tokens=job.progress.tokens_seen if standing.is_terminal else None,
        seed=spec.seed,
        user_provided_suffix=job.name,
        metadata=dict(tag.split("=", 1) for tag in job.tags if "=" in tag),
    )


def event_object(event: Event) -> JobEvent:
    """An event."""
    level: Literal["info", "warn", "error"] = "info"
    if event.kind in _BAD:
        level = "error"
    elif event.kind in _DOUBTFUL:
        level = "warn"
    return JobEvent(
        id=f"{EVENT_ID}{event.id}",
        created_at=int(event.time),
        level=level,
        message=event.message or str(event.kind),
        type="metrics" if event.kind in _MEASURED else "message",
        data={**event.data, "kind": str(event.kind)},
    )


def checkpoint_object(checkpoint: CheckpointView) -> CheckpointObject:
    """A checkpoint."""
    metrics: dict[str, Any] = {
        "step": checkpoint.step,
        "tokens_seen": checkpoint.tokens_seen,
        "domain_bpb": checkpoint.domain_bpb,
        "general_bpb": checkpoint.general_bpb,
        "gain": checkpoint.gain,
        "forgetting": checkpoint.forgetting,
    }
    return CheckpointObject(
        id=f"{CHECKPOINT_ID}{checkpoint.job_id}-{checkpoint.step}",
        created_at=int(checkpoint.created_at),
        fine_tuned_model_checkpoint=checkpoint_name(checkpoint.job_id, checkpoint.step),
        fine_tuning_job_id=checkpoint.job_id,
        step_number=checkpoint.step,
        metrics=metrics,
    )


def _status(job: JobView) -> Status:
    state = job.standing.state
    if job.standing.is_paused:
        return "paused"
    if state is State.SUCCEEDED:
        return "succeeded"
    if state is State.FAILED:
        return "failed"
    if state is State.CANCELLED:
        return "cancelled"
    return "queued" if state in (State.QUEUED, State.PROVISIONING) else "running"


def _estimated_finish(job: JobView) -> int | None:
    """When training ends at the speed so far; what comes after it takes little."""
    left, at = job.progress.eta_seconds, job.progress.updated_at
    is_training = job.standing.state is State.RUNNING and job.progress.stage == "train"
    return int(at + left) if is_training and left is not None and at is not None else None


def _hyperparameters(spec: JobSpec) -> dict[str, Any]:
    """What can be said in OpenAI's words; None: it was given in others, see the method."""
    training = spec.training
    epochs: str | int | float | None = "auto"
    if training.budget is not None:
        amount, unit = training.budget
        epochs = (int(amount) if amount == int(amount) else amount) if unit == "epochs" else None
    batch: str | int | None = "auto"
    if training.global_batch_tokens is not None:
        length = training.sequence_tokens
        batch = training.global_batch_tokens // length if length else None
    multiplier = "auto" if training.learning_rate is None else None
    return {"n_epochs": epochs, "batch_size": batch, "learning_rate_multiplier": multiplier}


def _file(source: Source) -> str:
    return source.path.removeprefix(UPLOADED)
