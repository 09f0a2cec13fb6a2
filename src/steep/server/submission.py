"""New jobs: whose they are, whether they may be, and what they would take."""

from __future__ import annotations

from steep.server.admission import admit, owned
from steep.server.auth import Caller
from steep.server.plans import plan_of
from steep.server.service import Service
from steep.server.store.repeats import Idempotency
from steep.server.store.submissions import JobKind
from steep.spec.api.jobs import JobView, Plan
from steep.spec.errors import InvalidSpec, NotFound
from steep.spec.job import JobSpec


def order(
    service: Service,
    caller: Caller,
    spec: JobSpec,
    *,
    idempotency_key: Idempotency | None = None,
    parent: tuple[str, int] | None = None,
    job_id: str | None = None,
    kind: JobKind = "training",
) -> JobView:
    """Queue a job for whoever asks, and wake the scheduler. The same order again answers the same job.

    An evaluation was admitted by whoever made its run: it reads less than its spec names.

    Raises:
        InvalidSpec: it names a project or a source that it may not have.
        Forbidden: the key does not open its project.
        Conflict: the idempotency key was used for another order.
    """
    view, is_new = service.store.jobs.submit(
        admit(spec, caller, service) if kind == "training" else owned(spec, caller),
        service.now(),
        created_by=caller.key.id,
        parent=parent,
        idempotency_key=idempotency_key,
        job_id=job_id,
        kind=kind,
    )
    if is_new:
        service.bell.ring()
    return view


def plan(service: Service, caller: Caller, spec: JobSpec) -> Plan:
    """What a job would take, as far as it can be told before it has read anything. Raises as `order`."""
    admitted = admit(spec, caller, service)
    try:
        service.store.projects.get(admitted.service.project)
    except NotFound as error:
        raise InvalidSpec(error.what, where="service.project", cure=error.cure) from error
    return plan_of(service, admitted)
