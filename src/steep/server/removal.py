"""Deleting, and how many bytes that frees."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steep.artifacts.files import unshared_bytes
from steep.server.copies import remove_copies, remove_copy
from steep.server.service import Service
from steep.spec.api.checkpoints import Freed
from steep.spec.errors import Conflict, InvalidInput, RunBusy
from steep.spec.states import State


def remove_tree(directory: Path) -> int:
    """Delete a directory, if it is there. Returns the bytes of files that no other directory shares."""
    if not directory.is_dir():
        return 0
    freed = unshared_bytes(directory)
    shutil.rmtree(directory)
    return freed


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
    require_rest(service, job_id)
    freed = 0
    if step in catalog.steps() or step in catalog.condemned_steps():
        try:
            freed = catalog.condemn(step)
        except InvalidInput as error:
            raise Conflict(error.what, where=f"{job_id}/{step}", cure=error.cure) from error
    service.store.checkpoints.delete(job_id, step, freed, f"step {step} {why}", service.now())
    catalog.bury(step)
    return Freed(freed_bytes=freed + _remove_copy(service, job_id, step))


def delete_checkpoint(service: Service, job_id: str, step: int) -> Freed:
    """Delete a checkpoint while nobody else is at the job's files, which its state alone does not tell: a worker that is not
    heard of may be, or whoever has it branched, rolled back or pruned.

    Raises:
        Conflict: as `remove_checkpoint` says, or somebody is at them.
        NotFound: there is no such checkpoint.
    """
    if service.store.checkpoints.get(job_id, step).state != "deleted":
        require_rest(service, job_id)
    with held(service, job_id):
        return remove_checkpoint(service, job_id, step)


@contextmanager
def held(service: Service, job_id: str) -> Iterator[None]:
    """Hold a job's run directory, so that nobody else works in it.

    Raises:
        Conflict: somebody does.
    """
    try:
        with service.run(job_id).lock():
            yield
    except RunBusy as error:
        raise Conflict(error.what, where=job_id, cure="Wait until it is done.") from error


def require_rest(service: Service, job_id: str) -> None:
    """Nobody works on a job, as far as its state tells.

    Raises:
        Conflict: a worker does.
    """
    state = service.store.jobs.get(job_id, service.now()).standing.state
    if state is not State.QUEUED and not state.is_terminal:
        raise Conflict("a worker uses the checkpoints of this job", where=job_id, cure="Pause it first.")


def _remove_copy(service: Service, job_id: str, step: int) -> int:
    """What a store that did not answer keeps goes when it is asked for again."""
    copy_bytes = remove_copy(service, job_id, step)
    service.store.checkpoints.count_freed(job_id, copy_bytes, service.now())
    return copy_bytes
