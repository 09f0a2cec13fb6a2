"""What tests of the store are made of: specs, devices, reports; and a look at what is in its tables."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, text

from steep.compute.contract import Device
from steep.server.store.attempts import Begun
from steep.server.store.store import Store
from steep.spec.api.attempts import ReportsRequest
from steep.spec.api.jobs import JobView
from steep.spec.job import JobSpec
from steep.spec.reports import Report, StepReport
from steep.spec.states import HOLDING, State

LEASE_SECONDS = 60.0


def spec(name: str = "a-job", **service: Any) -> JobSpec:
    """A small job spec; what is not the service's goes in as `more`."""
    more = service.pop("more", {})
    whole = {"name": name, "base": "org/model", "corpus": {"sources": ["/text"]}, "service": service, **more}
    return JobSpec.model_validate(whole)


def gpus(*numbers: int) -> list[Device]:
    """GPUs of this machine."""
    return [Device(f"gpu-{number}", "gpu", "NVIDIA H100 80GB HBM3", 80 << 30) for number in numbers]


def submitted(store: Store, now: float = 0.0, name: str = "a-job", **service: Any) -> JobView:
    """A queued job."""
    return store.jobs.submit(spec(name, **service), now)[0]


def begun(store: Store, job_id: str, now: float = 1.0, devices: list[Device] | None = None) -> Begun:
    """An attempt of it."""
    return store.attempts.begin(
        job_id, "local", gpus(0) if devices is None else devices, now, lease_seconds=LEASE_SECONDS
    )


def heard(store: Store, attempt: Begun, now: float, *reports: Report, first: int = 0) -> Any:
    """What the server answers to reports of an attempt, which are numbered from `first` on."""
    numbered = tuple(report.model_copy(update={"sequence": first + place}) for place, report in enumerate(reports))
    request = ReportsRequest(reports=numbered)
    return store.attempts.record_reports(
        attempt.job_id, attempt.number, attempt.token, request, now, lease_seconds=LEASE_SECONDS
    )


def running(store: Store, now: float = 0.0, devices: list[Device] | None = None, **service: Any) -> Begun:
    """A job whose worker has been heard of."""
    attempt = begun(store, submitted(store, now, **service).id, now + 1, devices)
    heard(store, attempt, now + 2)
    return attempt


def step(number: int, loss: float = 2.0, **more: Any) -> StepReport:
    """The report of an optimizer step."""
    values = {"total_steps": 100, "tokens_seen": number * 1000, "learning_rate": 1e-4, "gradient_norm": 1.0}
    return StepReport(step=number, loss=loss, step_seconds=0.5, tokens_per_second=2000.0, **values, **more)


def state(store: Store, job_id: str) -> tuple[State, str]:
    """Where a job is, and why."""
    standing = store.jobs.get(job_id, 0.0).standing
    return standing.state, str(standing.reason)


def rows(store: Store, statement: str) -> list[Any]:
    """What a query finds."""
    with store.database.read() as connection:
        return _rows(connection, statement)


def contents(store: Store) -> dict[str, list[Any]]:
    """Everything that is in the tables, in no order that means something."""
    tables = ("jobs", "attempts", "device_leases", "events", "job_progress", "checkpoints", "deliveries", "counters")
    with store.database.read() as connection:
        return {table: sorted(map(repr, _rows(connection, f"SELECT * FROM {table}"))) for table in tables}


def check_whole(store: Store) -> None:
    """What holds at every moment, whatever is done and in whatever order. Looks at one moment; others may go on writing."""
    with store.database.read() as connection:
        living = _rows(connection, "SELECT * FROM attempts WHERE ended_at IS NULL")
        jobs = _rows(connection, "SELECT id, state, reason, attempts FROM jobs")
        leases = _rows(connection, "SELECT backend, device_id, job_id, attempt FROM device_leases")
        numbers = [row.id for row in _rows(connection, "SELECT id FROM events ORDER BY id")]
    by_job = {row.job_id: row for row in living}
    assert len(by_job) == len(living), "a job has two living attempts"
    for job in jobs:
        if State(job.state) in HOLDING:
            attempt = by_job.pop(job.id)
            assert (attempt.state, attempt.reason) == (job.state, job.reason)
            assert attempt.number == job.attempts
    assert not by_job, "an attempt lives of a job that does not run"
    lent = [(row.backend, device, row.job_id, row.number) for row in living for device in json.loads(row.devices)]
    assert sorted(tuple(row) for row in leases) == sorted(lent)
    assert len({device[:2] for device in lent}) == len(lent), "a device is lent twice"
    assert numbers == list(range(1, len(numbers) + 1)), "events have gaps"


def _rows(connection: Connection, statement: str) -> list[Any]:
    return list(connection.execute(text(statement)).all())
