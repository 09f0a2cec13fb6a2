"""Numbers about all jobs at once, for those who watch over the service. Each is one query, however many jobs there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, select

from steep.server.store.database import Database
from steep.server.store.tables import attempts, counters, job_progress, jobs
from steep.spec.states import HOLDS, State

NUM_WAITS = 5000
"""So many of the jobs that began last are looked at."""


class Waiting(NamedTuple):
    """How many jobs wait for devices, and since when the first of them does."""

    num_jobs: int
    since: float | None


class Pace(NamedTuple):
    """How quickly a running job trains; what it did not tell is not a number."""

    job_id: str
    project: str
    tokens_per_second: float
    mfu: float


class Gauges:
    """What is measured of the service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self) -> Waiting:
        """The queue; jobs that are held are not in it."""
        queued = (jobs.c.state == str(State.QUEUED)) & jobs.c.reason.not_in(map(str, HOLDS))
        with self._database.read() as connection:
            row = connection.execute(select(func.count(), func.min(jobs.c.queued_at)).where(queued)).one()
        return Waiting(*row)

    def waits(self, since: float) -> list[float]:
        """How long jobs waited for their first devices, in seconds, of those that got them since a time; the shortest first."""
        began = (
            select(jobs.c.started_at, jobs.c.created_at)
            .where(jobs.c.started_at >= since)
            .order_by(jobs.c.started_at.desc())
            .limit(NUM_WAITS)
        )
        with self._database.read() as connection:
            return sorted(max(row.started_at - row.created_at, 0.0) for row in connection.execute(began))

    def attempts(self) -> dict[tuple[str, str], int]:
        """Number of attempts by state and reason, those that have ended too."""
        query = select(attempts.c.state, attempts.c.reason, func.count()).group_by(attempts.c.state, attempts.c.reason)
        with self._database.read() as connection:
            return {(state, reason): count for state, reason, count in connection.execute(query)}

    def fenced(self) -> int:
        """Number of attempts that were fenced."""
        with self._database.read() as connection:
            query = select(func.count()).select_from(attempts).where(attempts.c.revoked_at.is_not(None))
            return connection.execute(query).scalar_one()

    def paces(self) -> Sequence[Pace]:
        """Of the jobs that run."""
        query = (
            select(jobs.c.id, jobs.c.project, job_progress.c.progress)
            .join(job_progress, job_progress.c.job_id == jobs.c.id)
            .where(jobs.c.state == str(State.RUNNING))
            .order_by(jobs.c.id)
        )
        with self._database.read() as connection:
            return [
                Pace(row.id, row.project, _number(row.progress, "tokens_per_second"), _number(row.progress, "mfu"))
                for row in connection.execute(query)
            ]

    def counted(self, name: str) -> int:
        """What was counted under a name since the database was made."""
        with self._database.read() as connection:
            found = connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar_one_or_none()
            return int(found or 0)


def _number(progress: dict[str, object], name: str) -> float:
    value = progress.get(name)
    return float(value) if isinstance(value, int | float) else math.nan
