"""Deleting, and how many bytes that frees."""

from __future__ import annotations

import shutil
from pathlib import Path

from steep.server.copies import remove_copies, remove_copy
from steep.server.service import Service
from steep.spec.api.checkpoints import Freed
from steep.spec.errors import Conflict, InvalidInput
from steep.spec.states import State


def remove_tree(directory: Path) -> int:
    """Delete a directory, if it is there. Returns the bytes of files that no other directory shares."""
    if not directory.is_dir():
        return 0
    stats = [path.stat() for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    shutil.rmtree(directory)
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)


def remove_job(service: Service, job_id: str) -> Freed:
    """Delete a job that has ended, its files first: should that be cut off, the same request goes on with it.

    Raises:
        Conflict: it has not ended.
    """
    view = service.store.jobs.get(job_id, service.now())
    if not view.standing.is_terminal:
        raise Conflict(f"{view.name} is {view.standing.state}", where=job_id, cure="Cancel it first.")
    freed = remove_tree(service.settings.run_directory(job_id)) + remove_copies(service, job_id)
    service.store.jobs.delete(job_id, service.now())
    return Freed(freed_bytes=freed)


def remove_checkpoint(service: Service, job_id: str, step: int, why: str = "deleted on request") -> Freed:
    """Delete a checkpoint's bytes, and the copy that the service keeps of it. Its row stays, for what was measured on it.

    It is written down as soon as the checkpoint is gone, and its bytes and its copy go after that. Should that be cut off,
    the same request goes on with it.

    Raises:
        Conflict: it is pinned, something descends from it, or the job works and would resume from it.
    """
    view = service.store.checkpoints.get(job_id, step)
    catalog = service.run(job_id).catalog()
    if view.state == "deleted":
        catalog.bury(step)
        return Freed(freed_bytes=_remove_copy(service, job_id, step))
    if service.store.jobs.get(job_id, service.now()).standing.state not in (
        State.QUEUED,
        State.SUCCEEDED,
        State.FAILED,
        State.CANCELLED,
    ):
        raise Conflict("a worker uses the checkpoints of this job", where=job_id, cure="Pause it first.")
    freed = 0
    if step in catalog.steps() or step in catalog.condemned_steps():
        try:
            freed = catalog.condemn(step)
        except InvalidInput as error:
            raise Conflict(error.what, where=f"{job_id}/{step}", cure=error.cure) from error
    service.store.checkpoints.delete(job_id, step, freed, f"step {step} {why}", service.now())
    catalog.bury(step)
    return Freed(freed_bytes=freed + _remove_copy(service, job_id, step))


def _remove_copy(service: Service, job_id: str, step: int) -> int:
    """What a store that did not answer keeps goes when it is asked for again."""
    copy_bytes = remove_copy(service, job_id, step)
    service.store.checkpoints.count_freed(job_id, copy_bytes, service.now())
    return copy_bytes
