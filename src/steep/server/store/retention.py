"""Old news goes: events of progress first, then what jobs wrote and did long ago. A job and its outcome stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, select, tuple_

from steep.server.store.database import Database
from steep.server.store.tables import deliveries, device_samples, events, idempotency, jobs, key_use, log_chunks
from steep.spec.events import EventKind
from steep.spec.states import TERMINAL

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Keep:
    """For how long what is kept, in seconds. Events and logs of jobs that have not ended are kept, save for progress."""

    progress_seconds: float = 2 * DAY_SECONDS
    events_seconds: float = 180 * DAY_SECONDS
    logs_seconds: float = 90 * DAY_SECONDS
    samples_seconds: float = 14 * DAY_SECONDS
    idempotency_seconds: float = 2 * DAY_SECONDS
    key_use_seconds: float = 400 * DAY_SECONDS


class Retention:
    """Deletes what is older than it need be."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prune(self, now: float, keep: Keep | None = None, *, limit: int = 5000) -> int:
        """Delete old rows, so many of each kind at most, so that nobody waits long. Returns how many; 0: all is done."""
        policy = keep or Keep()
        return sum(
            self._prune(table, old, now, limit)
            for table, old in (
                (events, _progress_before(now - policy.progress_seconds)),
                (events, and_(events.c.time < now - policy.events_seconds, _ended(events), _not_due())),
                (log_chunks, and_(log_chunks.c.time < now - policy.logs_seconds, _ended(log_chunks))),
                (device_samples, device_samples.c.time < now - policy.samples_seconds),
                (idempotency, idempotency.c.created_at < now - policy.idempotency_seconds),
                (key_use, key_use.c.hour < (now - policy.key_use_seconds) / 3600),
            )
        )

    def _prune(self, table: Table, old: ColumnElement[bool], now: float, limit: int) -> int:
        key = list(table.primary_key)
        with self._database.write(now, durable=False) as transaction:
            rows = [tuple(row) for row in transaction.execute(select(*key).where(old).limit(limit))]
            for start in range(0, len(rows), 200):  # SQLite takes so many parameters and no more
                transaction.execute(delete(table).where(tuple_(*key).in_(rows[start : start + 200])))
            return len(rows)


def _progress_before(time: float) -> ColumnElement[bool]:
    return and_(events.c.kind == str(EventKind.PROGRESS), events.c.time < time, _not_due())


def _ended(table: Table) -> ColumnElement[bool]:
    ended: ColumnElement[Any] = select(jobs.c.id).where(jobs.c.state.in_(map(str, TERMINAL))).scalar_subquery()
    return table.c.job_id.in_(ended)


def _not_due() -> ColumnElement[bool]:
    """No alert of it is still to be sent."""
    return events.c.id.not_in(select(deliveries.c.event_id).where(deliveries.c.next_try_at.is_not(None)))
