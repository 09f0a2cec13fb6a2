"""New attempts, as rows: devices lent all together to a job that waits, within the quota of its project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select
from sqlalchemy.exc import IntegrityError

from steep.compute.contract import Device
from steep.server.store.database import Transaction
from steep.server.store.standings import columns_of, lock_job, move_job, standing_of
from steep.server.store.tables import attempts, device_leases, jobs, projects
from steep.server.waiting import is_backing_off
from steep.spec.errors import Conflict
from steep.spec.events import EventKind
from steep.spec.states import Reason, State, begin


def begin_attempt(
    transaction: Transaction,
    job_id: str,
    backend: str,
    devices: Sequence[Device],
    token_hash: str,
    lease_seconds: float,
    price_per_second: float,
) -> int:
    """Begin an attempt of a job; returns its number. See `Attempts.begin`."""
    now = transaction.now
    name = transaction.execute(select(jobs.c.project).where(jobs.c.id == job_id)).scalar_one_or_none()
    # first of all locks, so that two attempts that begin at once cannot both see the same room in a quota
    project = transaction.lock(select(projects).where(projects.c.name == name)).one_or_none()
    job = lock_job(transaction, job_id)
    standing = standing_of(job)
    if standing.state is not State.QUEUED or standing.is_paused or is_backing_off(job.not_before, job.since, now):
        raise Conflict(f"the job is {standing.state} ({standing.reason}), and not waiting", where=job_id)
    gpus = sum(device.kind == "gpu" for device in devices)
    _keep_quota(transaction.connection, project, gpus)
    number = int(job.attempts) + 1
    names = ", ".join(device.id for device in devices)
    detail = f"starting on {names}"
    row = {
        "job_id": job_id,
        "number": number,
        "token_hash": token_hash,
        "lease_expires_at": now + lease_seconds,
        "backend": backend,
        "devices": [device.id for device in devices],
        "gpus": gpus,
        "price_per_second": price_per_second,
        "started_at": now,
        "version": 0,
        **columns_of(begin(State.PROVISIONING, Reason.STARTING, detail, now)),
    }
    _insert_attempt(transaction, row)
    started_at = now if job.started_at is None else job.started_at
    changes = {"attempts": number, "started_at": started_at}
    move_job(transaction, job, State.PROVISIONING, Reason.STARTING, detail, **changes)
    transaction.emit(job, EventKind.PROVISIONED, f"got {names}", attempt=number, data={"devices": row["devices"]})
    return number


def _insert_attempt(transaction: Transaction, row: dict[str, Any]) -> None:
    leases = [
        {
            "backend": row["backend"],
            "device_id": device,
            "job_id": row["job_id"],
            "attempt": row["number"],
            "since": row["started_at"],
        }
        for device in row["devices"]
    ]
    try:
        transaction.execute(insert(attempts).values(row))
        if leases:
            transaction.execute(insert(device_leases), leases)
    except IntegrityError as error:
        raise Conflict("a device is lent already, or the job has a living attempt", where=row["job_id"]) from error


def _keep_quota(connection: Connection, project: Row[Any] | None, gpus: int) -> None:
    """Placement keeps quotas too; here nothing comes between the look and the deed."""
    if project is None or (project.quota_gpus is None and project.quota_jobs is None):
        return
    used = connection.execute(
        select(func.count(), func.coalesce(func.sum(attempts.c.gpus), 0))
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(jobs.c.project == project.name, attempts.c.ended_at.is_(None))
    ).one()
    if project.quota_jobs is not None and used[0] + 1 > project.quota_jobs:
        raise Conflict(f"project {project.name} runs {used[0]} of its {project.quota_jobs} jobs", where=project.name)
    if project.quota_gpus is not None and used[1] + gpus > project.quota_gpus:
        raise Conflict(f"project {project.name} uses {used[1]} of its {project.quota_gpus} GPUs", where=project.name)
