"""New jobs, as rows."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import insert, select

from steep.server.store.database import Transaction
from steep.server.store.measurements import inherit_base
from steep.server.store.repeats import Idempotency as Idempotency
from steep.server.store.standings import columns_of, lock_job
from steep.server.store.tables import job_progress, job_specs, job_tags, jobs, projects
from steep.spec.api.jobs import Outcome
from steep.spec.errors import InvalidSpec
from steep.spec.events import EventKind
from steep.spec.job import JobSpec
from steep.spec.states import Reason, State, begin

JobKind = Literal["training", "evaluation"]


def require_project(transaction: Transaction, name: str) -> None:
    """There must be such a project.

    Raises:
        InvalidSpec: there is none.
    """
    if transaction.execute(select(projects.c.name).where(projects.c.name == name)).one_or_none() is None:
        raise InvalidSpec(
            f"there is no project {name}",
            where="service.project",
            cure="`steep projects list` shows those that there are; an admin can create one.",
        )


def insert_job(
    transaction: Transaction,
    job_id: str,
    spec: JobSpec,
    created_by: str,
    parent: tuple[str, int] | None,
    kind: JobKind = "training",
) -> None:
    """Write a new job: queued, or held where its spec says so."""
    service, now = spec.service, transaction.now
    reason = Reason.HELD_BY_USER if service.held else Reason.SUBMITTED
    detail = "submitted paused" if service.held else "just submitted"
    row = {
        "id": job_id,
        "name": spec.name,
        "project": service.project,
        "base": spec.base.model or "from scratch",
        "priority": service.priority,
        "gpu": service.gpu,
        "gpu_count": service.gpu_count,
        "location": service.location,
        "limits": service.limits.model_dump(mode="json"),
        "limits_told": [],
        "alerts": [alert.model_dump(mode="json") for alert in service.alerts],
        "stop_when_idle": service.stop_when_idle,
        "deadline": spec.deadline,
        "max_attempts": service.max_attempts,
        "forgetting_budget": spec.evaluation.forgetting_budget,
        "kind": kind,
        "parent": None if parent is None else parent[0],
        "parent_step": None if parent is None else parent[1],
        "created_by": created_by,
        "created_at": now,
        "queued_at": now,
        "not_before": now,
        "attempts": 0,
        "gpu_seconds": 0.0,
        "work_seconds": 0.0,
        "cost": 0.0,
        "stored_bytes": 0,
        "freed_bytes": 0,
        "aside_bytes": 0,
        "outcome": Outcome(forgetting_budget=spec.evaluation.forgetting_budget).model_dump(mode="json"),
        "version": 0,
        **columns_of(begin(State.QUEUED, reason, detail, now)),
    }
    transaction.execute(insert(jobs).values(row))
    transaction.execute(
        insert(job_specs).values(job_id=job_id, spec=spec.model_dump(mode="json", exclude_defaults=True))
    )
    transaction.execute(
        insert(job_progress).values(job_id=job_id, next_report=0, next_log={}, progress={}, told_at=0.0)
    )
    insert_tags(transaction, job_id, spec.tags)
    if parent is not None and kind == "training":
        inherit_base(transaction, job_id, parent[0])
    job = lock_job(transaction, job_id)
    transaction.emit(job, EventKind.CREATED, f"{spec.name} was submitted", data={"created_by": created_by})
    if service.held:
        transaction.emit(job, EventKind.PAUSED, detail)
    else:
        transaction.emit(job, EventKind.QUEUED, detail)


def insert_tags(transaction: Transaction, job_id: str, tags: tuple[str, ...]) -> None:
    """Write a job's tags, each once, in their order."""
    rows = [{"job_id": job_id, "tag": tag, "position": place} for place, tag in enumerate(dict.fromkeys(tags))]
    if rows:
        transaction.execute(insert(job_tags), rows)
