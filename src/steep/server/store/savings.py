"""Checkpoints' rows, as workers' reports change them. What users and loops do to them is in `checkpoints.py`."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, func, select, update

from steep.server.store.database import Transaction
from steep.server.store.measurements import Tell
from steep.server.store.tables import checkpoints, counters, jobs
from steep.spec.api.jobs import Progress
from steep.spec.events import EventKind
from steep.spec.reports import CheckpointReport

CHECKPOINTS_SAVED = "checkpoints_saved"
STALL_MILLISECONDS = "checkpoint_stall_milliseconds"
"""Counters, see `store/gauges.py`."""


def record_checkpoint(
    transaction: Transaction,
    job: Row[Any],
    report: CheckpointReport,
    tell: Tell,
    attempt: int,
    progress: Progress,
) -> None:
    """Write what happened to a checkpoint, and tell of it."""
    step = report.step
    detail = f": {report.detail}" if report.detail else ""
    size = report.size_bytes
    match report.event:
        case "saved":
            _save(transaction, job, report, attempt, progress)
            stall = report.stall_seconds if math.isfinite(report.stall_seconds) else 0.0
            tell(
                EventKind.CHECKPOINT_SAVED,
                f"step {step} saved",
                report,
                step=step,
                size_bytes=size,
                stall_seconds=stall,
            )
            for name, count in ((CHECKPOINTS_SAVED, 1), (STALL_MILLISECONDS, round(stall * 1000))):
                transaction.put(counters, {"name": name, "value": count}, add=("value",))
        case "verified":
            change_checkpoint(transaction, job.id, step, state="valid", verified_at=report.time or transaction.now)
            tell(EventKind.CHECKPOINT_VERIFIED, f"step {step} read back{detail}", report, step=step)
        case "uploaded":
            change_checkpoint(transaction, job.id, step, uploaded=True)
            tell(EventKind.CHECKPOINT_UPLOADED, f"step {step} copied{detail}", report, step=step)
        case "upload_failed":
            tell(EventKind.NOTICE, f"step {step} could not be copied yet{detail}", report, step=step, code=report.event)
        case "deleted":
            mark_deleted(transaction, job.id, step, size)
            tell(EventKind.CHECKPOINT_DELETED, f"step {step} deleted{detail}", report, step=step, freed_bytes=size)
        case "set_aside":
            if mark_set_aside(transaction, job.id, [step]):
                tell(EventKind.NOTICE, f"step {step} set aside{detail}", report, step=step, code=report.event)
        case "rejected":
            change_checkpoint(transaction, job.id, step, state="damaged")
            tell(EventKind.CHECKPOINT_DAMAGED, f"step {step} passed over{detail}", report, step=step)


def change_checkpoint(transaction: Transaction, job_id: str, step: int, **values: Any) -> bool:
    """Change the row of one that is not deleted. Returns whether there is one."""
    same = (checkpoints.c.job_id == job_id) & (checkpoints.c.step == step) & (checkpoints.c.state != "deleted")
    return transaction.change(update(checkpoints).where(same).values(**values)) > 0


def mark_deleted(transaction: Transaction, job_id: str, step: int, freed_bytes: int) -> bool:
    """Its bytes are gone; its row stays, for what was measured on it. Returns whether it was there."""
    values = {"state": "deleted", "deleted_at": transaction.now, "pinned": False}
    was_there = change_checkpoint(transaction, job_id, step, **values)
    count_bytes(transaction, job_id)
    if was_there:
        count_freed(transaction, job_id, freed_bytes)
    return was_there


def mark_set_aside(transaction: Transaction, job_id: str, steps: Collection[int]) -> bool:
    """They are no part of the job's line any more, and may not be gone back to; their bytes are there, and count until they
    are freed. Returns whether any was there."""
    there = (checkpoints.c.job_id == job_id) & checkpoints.c.step.in_(steps) & (checkpoints.c.state != "deleted")
    size = transaction.execute(select(func.coalesce(func.sum(checkpoints.c.size_bytes), 0)).where(there)).scalar_one()
    values = {"state": "deleted", "deleted_at": transaction.now, "pinned": False, "selected": False}
    if not transaction.change(update(checkpoints).where(there).values(**values)):
        return False
    aside = {"aside_bytes": jobs.c.aside_bytes + size}
    transaction.execute(update(jobs).where(jobs.c.id == job_id).values(**aside))
    count_bytes(transaction, job_id)
    return True


def count_freed(transaction: Transaction, job_id: str, freed_bytes: int) -> None:
    """Write down that bytes of a job's checkpoints were freed."""
    if freed_bytes:
        freed = {"freed_bytes": jobs.c.freed_bytes + freed_bytes}
        transaction.execute(update(jobs).where(jobs.c.id == job_id).values(**freed))


def count_bytes(transaction: Transaction, job_id: str) -> None:
    """Write down how many bytes a job's checkpoints take, those that were set aside too."""
    kept = (checkpoints.c.job_id == job_id) & (checkpoints.c.state != "deleted")
    total = select(func.coalesce(func.sum(checkpoints.c.size_bytes), 0)).where(kept).scalar_subquery()
    transaction.execute(update(jobs).where(jobs.c.id == job_id).values(stored_bytes=total + jobs.c.aside_bytes))


def _save(transaction: Transaction, job: Row[Any], report: CheckpointReport, attempt: int, progress: Progress) -> None:
    """A step that was saved before is saved anew after going back: what is known of the old bytes says nothing of these."""
    newest_before = (
        select(func.max(checkpoints.c.step))
        .where(checkpoints.c.job_id == job.id, checkpoints.c.step < report.step, checkpoints.c.state != "deleted")
        .scalar_subquery()
    )
    parent = transaction.execute(select(newest_before)).scalar()
    row = {
        "job_id": job.id,
        "step": report.step,
        "attempt": attempt,
        "tokens_seen": report.tokens_seen or progress.tokens_seen,
        "created_at": report.time or transaction.now,
        "size_bytes": report.size_bytes,
        "state": "unverified",
        "verified_at": None,
        "deleted_at": None,
        "uploaded": False,
        "pinned": False,
        "selected": False,
        "parent": _origin(job) if parent is None else f"{job.id}/{parent}",
    }
    transaction.put(checkpoints, row)
    count_bytes(transaction, job.id)


def _origin(job: Row[Any]) -> str | None:
    return None if job.parent is None else f"{job.parent}/{job.parent_step}"
