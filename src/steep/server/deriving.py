"""Jobs made of others: clones, branches; and going back within one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from steep.artifacts.lineage import branch, rollback
from steep.server.admission import admit, resolve
from steep.server.auth import Caller
from steep.server.copies import with_store
from steep.server.limits import Usage, is_reached
from steep.server.loops.limits import usage_of
from steep.server.service import Service
from steep.server.store.ids import new_id
from steep.server.store.submissions import Idempotency
from steep.server.submission import order
from steep.spec.api.jobs import BranchRequest, JobView
from steep.spec.errors import Conflict, InvalidSpec, SteepError
from steep.spec.job import JobSpec
from steep.spec.load import parse_spec


def clone_spec(spec: JobSpec, name: str | None, changes: Mapping[str, Any]) -> JobSpec:
    """A spec like another, with fields changed by dotted path.

    Raises:
        InvalidSpec: what comes out is none.
    """
    values = spec.model_dump(mode="json", exclude_unset=True)
    for path, value in changes.items():
        node = values
        *parents, last = path.split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise InvalidSpec(f"goes through {parent!r}, which holds a plain value", where=f"set.{path}")
            node = child
        node[last] = value
    if name is not None:
        values["name"] = name
    return parse_spec(values)


def branch_job(
    service: Service, caller: Caller, job_id: str, request: BranchRequest, idempotency_key: Idempotency | None
) -> JobView:
    """Queue a job that goes on from a checkpoint of another, with all its state.

    Raises:
        Forbidden: the key does not open the project that the spec names.
        InvalidInput: there is no such checkpoint, or the spec changes what a branch cannot change.
        DamagedArtifact: the checkpoint's bytes are wrong.
    """
    spec = admit(clone_spec(service.store.jobs.spec(job_id), request.name, request.set), caller, service)
    service.store.checkpoints.require_sound(job_id, request.step)
    new = new_id("job")
    with _named(job_id, request.step):
        made = branch(
            service.run(job_id), request.step, service.settings.run_directory(new), _for_worker(spec, service, new)
        )
    try:
        view = order(service, caller, spec, idempotency_key=idempotency_key, parent=(job_id, request.step), job_id=new)
    except BaseException:
        _undo(service, made.path.name)
        raise
    if view.id != new:  # the same order was made before
        _undo(service, new)
    return view


def rollback_job(service: Service, caller: Caller, job_id: str, step: int) -> JobView:
    """Go back to a checkpoint, and let the job go on from there.

    Raises:
        Conflict: it is not paused: what works must not lose its ground. Or one of its limits is reached there too.
        InvalidInput: there is no such checkpoint.
    """
    view = service.store.jobs.get(job_id, service.now())
    if not view.standing.is_paused:
        cure = f"`steep jobs branch {job_id} --from {step}` makes a new job of it."
        raise Conflict(
            f"the job {'has ended' if view.standing.is_terminal else f'is {view.standing.state}, not paused'}",
            where=job_id,
            cure=cure if view.standing.is_terminal else "`steep jobs pause` it first.",
        )
    service.store.checkpoints.require_sound(job_id, step)
    tokens_seen = float(service.store.checkpoints.get(job_id, step).tokens_seen)
    require_below(view, replace(usage_of(view), tokens=tokens_seen))
    with _named(job_id, step):
        rollback(service.run(job_id), step)
    service.store.checkpoints.set_aside(job_id, step, f"went back to step {step}", service.now())
    service.store.jobs.release(job_id, service.now(), f"goes on from step {step}, by {caller.key.name}")
    service.bell.ring()
    return service.store.jobs.get(job_id, service.now())


def require_below(view: JobView, usage: Usage) -> None:
    """A job that goes on at one of its limits would be stopped at once.

    Raises:
        Conflict: it has reached one.
    """
    if is_reached(view.limits, usage):
        raise Conflict("the job has reached one of its limits", where=view.id, cure="Raise that limit first.")


@contextmanager
def _named(job_id: str, step: int) -> Iterator[None]:
    """What goes wrong is told of the checkpoint, by the names that users have for it, and not of a path on the server."""
    try:
        yield
    except SteepError as error:
        raise type(error)(error.what, where=f"{job_id}/{step}", cure=error.cure) from error


def _for_worker(spec: JobSpec, service: Service, job_id: str) -> JobSpec:
    return with_store(resolve(spec, service), service, job_id)


def _undo(service: Service, job_id: str) -> None:
    from steep.server.removal import remove_tree

    remove_tree(service.settings.run_directory(job_id))
