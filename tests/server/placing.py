"""Jobs with little workers for tests of the loops, which behave as they are told."""

from __future__ import annotations

import json
import time
from typing import Any

import psutil
from tests.server.serving import Serving, wait_for

from steep.compute.contract import Device
from steep.compute.local.backend import LocalBackend
from steep.compute.local.records import AttemptRecords, Handle
from steep.server.failure import FailurePolicy
from steep.server.settings import Patience
from steep.server.store.attempts import Begun
from steep.server.store.ids import new_id
from steep.spec.api.jobs import JobDetail
from steep.spec.events import EventKind
from steep.spec.job import JobSpec
from steep.spec.states import Reason, State

PATIENT = Patience(lease=60.0, unreachable=60.0, loop=1.0, look=0.1)
SOON = FailurePolicy(first_delay_seconds=0.2)


class Place:
    """A server, and jobs whose workers behave as they are told."""

    def __init__(self, house: Serving) -> None:
        self.service = house.service
        self.store = house.service.store

    def submit(self, behaviour: str, *, service: dict[str, Any] | None = None, **settings: Any) -> str:
        job_id = new_id("job")
        run = self.service.run(job_id)
        run.path.mkdir(parents=True)
        run.job_file.write_text(json.dumps({"behaviour": behaviour, **settings}))
        values = {"name": behaviour, "base": "org/x", "corpus": {"sources": ["hf://org/x"]}, "service": service or {}}
        self.store.jobs.submit(JobSpec.model_validate(values), time.time(), job_id=job_id)
        self.service.bell.ring()
        return job_id

    def job(self, job_id: str) -> JobDetail:
        return self.store.jobs.detail(job_id, time.time())

    def wait(self, job_id: str, state: State, reason: Reason | None = None, seconds: float = 20.0) -> JobDetail:
        def there() -> bool:
            standing = self.job(job_id).standing
            return standing.state is state and reason in (None, standing.reason)

        wait_for(there, seconds)
        return self.job(job_id)

    def kinds(self, job_id: str) -> list[EventKind]:
        return [event.kind for event in self.store.events.after(job_id=job_id)]

    def process(self, job_id: str, attempt: int = 1) -> psutil.Process:
        """The worker's, which must have begun."""
        records = AttemptRecords(Handle(job_id, attempt, self.service.run(job_id).path))
        wait_for(records.started, 20)
        started = records.started()
        assert started is not None
        return psutil.Process(started.worker.pid)

    def is_said(self, job_id: str, word: str) -> bool:
        return word in self.service.run(job_id).path.joinpath("worker.out").read_text()


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def begin_without_handle(
    place: Place, backend: LocalBackend, kind: str, *, num_devices: int | None = None
) -> tuple[str, Begun, list[Device]]:
    """A job's first attempt, as a server leaves it that died a minute ago, before it submitted or wrote down the handle.

    It has so many devices, or all.
    """
    job = place.submit(kind)
    devices = [state.device for state in backend.capacity().devices][:num_devices]
    return job, place.store.attempts.begin(job, "local", devices, time.time() - 60, lease_seconds=180), devices
