"""Samples of the machines that workers run on."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from steep.server.store.database import Database
from steep.server.store.paging import FIRST_PAGE, PageRequest, find
from steep.server.store.tables import device_samples
from steep.spec.api.attempts import DeviceSample
from steep.spec.api.common import Page


class Samples:
    """What GPUs, processors, memory and disks did while jobs ran."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, job_id: str, page: PageRequest = FIRST_PAGE, *, since: float | None = None) -> Page[DeviceSample]:
        """A page of a job's samples, the latest first."""
        query = select(device_samples).where(device_samples.c.job_id == job_id)
        if since is not None:
            query = query.where(device_samples.c.time > since)
        with self._database.read() as connection:
            found = find(connection, query, page, {"time": device_samples.c.time}, device_samples.c.time)
            return found.page(page, [DeviceSample.model_validate(row.sample) for row in found.rows])

    def since(self, job_id: str, attempt: int, time: float) -> Sequence[DeviceSample]:
        """All samples of an attempt after a time, the earliest first: what the watch for idle devices looks at."""
        wanted = (
            select(device_samples.c.sample)
            .where(device_samples.c.job_id == job_id, device_samples.c.attempt == attempt, device_samples.c.time > time)
            .order_by(device_samples.c.time)
        )
        with self._database.read() as connection:
            return [DeviceSample.model_validate(sample) for sample in connection.execute(wanted).scalars()]
