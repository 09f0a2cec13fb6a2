"""Where the service keeps copies of all jobs' checkpoints, when whoever started it named a place for them.

A job that names a store of its own keeps its copies there, and the service never deletes those.
"""

from __future__ import annotations

import logging

from steep.artifacts.manifest import step_name
from steep.artifacts.mirror import RemoteCheckpoints
from steep.artifacts.store import open_store
from steep.server.service import Service
from steep.spec.errors import SteepError
from steep.spec.job import JobSpec

log = logging.getLogger(__name__)


def with_store(spec: JobSpec, service: Service, job_id: str) -> JobSpec:
    """A job's spec with the service's store of copies, unless it names its own or the service has none."""
    where = service.settings.artifacts
    if where is None or spec.checkpoints.store is not None:
        return spec
    store = f"{where.rstrip('/')}/{job_id}"
    return spec.model_copy(update={"checkpoints": spec.checkpoints.model_copy(update={"store": store})})


def remove_copies(service: Service, job_id: str) -> int:
    """Delete the copies that the service keeps of a job's checkpoints; returns their bytes.

    A store that does not answer keeps what is left: that costs room and nothing else.
    """
    where = service.settings.artifacts
    if where is None:
        return 0
    freed = 0
    try:
        store = open_store(where)
        for one in store.list(job_id):
            store.delete(one.key)
            freed += one.size_bytes
    except SteepError as error:
        log.warning("%s: copies of its checkpoints are left in %s: %s", job_id, where, error)
    return freed


def remove_copy(service: Service, job_id: str, step: int) -> int:
    """Delete the copy that the service keeps of one checkpoint; returns its bytes. See `remove_copies`."""
    where = service.settings.artifacts
    if where is None:
        return 0
    name = service.store.jobs.spec(job_id).name
    try:
        remote = RemoteCheckpoints(open_store(where), f"{job_id}/{name}", "")
        size_bytes = sum(one.size_bytes for one in remote.store.list(f"{remote.prefix}/{step_name(step)}"))
        remote.delete(step)
    except SteepError as error:
        log.warning("%s: the copy of its checkpoint %d is left in %s: %s", job_id, step, where, error)
        return 0
    return size_bytes
