"""What jobs have shown of how long they take and how quick they are, for estimates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from steep.server.store.database import Database
from steep.server.store.tables import attempts, job_progress, job_specs, jobs
from steep.spec.states import State

NUM_RECENT = 20
"""So many of the newest jobs are looked at."""
LITTLE_STEPS = 5
"""The speed of a job that has made no more steps than these may be that of its beginning."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How quick a job was, or is.

    Args:
        devices: ids of those of its last attempt.
        tokens_per_second: of its last step that was told.
        training: the part `training` of its spec, as far as it was given.
    """

    job_id: str
    backend: str
    devices: tuple[str, ...]
    tokens_per_second: float
    training: Mapping[str, Any]


class Expectations:
    """What is to be expected of jobs, going by others."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ends(self, now: float, typical_seconds: float | None) -> dict[str, float]:
        """By job that holds devices, when it will probably end; those of which nobody knows are left out.

        Args:
            now: the time.
            typical_seconds: how long jobs take, for those that do not tell themselves; None: nobody knows.
        """
        query = (
            select(jobs.c.id, jobs.c.work_seconds, attempts.c.started_at, job_progress.c.progress)
            .join(attempts, attempts.c.job_id == jobs.c.id)
            .join(job_progress, job_progress.c.job_id == jobs.c.id)
            .where(attempts.c.ended_at.is_(None))
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        found = {}
        for row in rows:
            left, at = row.progress.get("eta_seconds"), row.progress.get("updated_at")
            if isinstance(left, int | float) and isinstance(at, int | float) and at >= row.started_at:
                found[row.id] = max(at + left, now)
            elif typical_seconds is not None:
                found[row.id] = max(row.started_at + typical_seconds - row.work_seconds, now)
        return found

    def typical_seconds(self) -> float | None:
        """How long a job works: the median of the newest that succeeded; None: none has yet."""
        query = (
            select(jobs.c.work_seconds)
            .where(jobs.c.state == str(State.SUCCEEDED))
            .order_by(jobs.c.created_at.desc())
            .limit(NUM_RECENT)
        )
        with self._database.read() as connection:
            seconds = list(connection.execute(query).scalars())
        return statistics.median(seconds) if seconds else None

    def ran(self, base: str) -> list[Ran]:
        """The newest jobs with a base, and how quick they trained it."""
        query = (
            select(
                jobs.c.id, attempts.c.backend, attempts.c.devices, job_progress.c.progress, job_specs.c.spec,
            )
            .join(attempts, (attempts.c.job_id == jobs.c.id) & (attempts.c.number == jobs.c.attempts))
            .join(job_progress, job_progress.c.job_id == jobs.c.id)
            .join(job_specs, job_specs.c.job_id == jobs.c.id)
            .where(jobs.c.base == base)
            .order_by(jobs.c.created_at.desc())
            .limit(NUM_RECENT)
        )  # fmt: skip
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            Ran(row.id, row.backend, tuple(row.devices), float(speed), row.spec.get("training", {}))
            for row in rows
            if isinstance(speed := row.progress.get("tokens_per_second"), int | float)
            and math.isfinite(speed)
            and speed > 0
            and row.progress.get("step", 0) > LITTLE_STEPS
        ]
