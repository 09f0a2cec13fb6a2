"""Alerts on their way: written with the event that they tell of, sent later, tried again until they arrive or are given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, ColumnElement, Row, exists, func, select, update

from steep.server.store.database import FAILED_LINES, Database, Transaction
from steep.server.store.tables import deliveries, events, jobs
from steep.spec.events import Event, EventKind
from steep.spec.service import Alert


@dataclass(frozen=True, slots=True)
class Delivery:
    """An alert to be sent.

    Args:
        id: of the delivery; the same over all tries, so that a receiver can tell a repetition.
        alert: whom to tell, and how.
        event: what to tell.
        project: of the job.
        job_name: as its owner calls it.
        tries: this one among them.
        since: when it was written, in seconds since the epoch.
    """

    id: int
    alert: Alert
    event: Event
    project: str
    job_name: str
    tries: int
    since: float


class Outbox:
    """Deliveries that are due. Each is handed to one sender at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, now: float, *, limit: int = 20, try_seconds: float = 60.0) -> list[Delivery]:
        """Take deliveries that are due; nobody else gets them for `try_seconds`, within which they are to be tried.

        Of each line, which is a receiver of a job, only the first that has not arrived yet: the others wait for it.
        """
        if not self._is_due(now):
            return []
        due = (
            select(deliveries, events, jobs.c.name.label("job_name"))
            .join(events, events.c.id == deliveries.c.event_id)
            .join(jobs, jobs.c.id == events.c.job_id)
            .where(deliveries.c.next_try_at <= now, ~_has_one_before())
            .order_by(deliveries.c.next_try_at, deliveries.c.id)
            .limit(limit)
            .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
        )
        with self._database.write(now, durable=False) as transaction:
            rows = transaction.execute(due.with_for_update(of=deliveries, skip_locked=True)).all()
            for row in rows:
                _change(transaction, row.deliveries_id, next_try_at=now + try_seconds, tries=row.deliveries_tries + 1)
            return [_delivery(row) for row in rows]

    def delivered(self, delivery: Delivery, now: float) -> None:
        """It arrived."""
        with self._database.write(now) as transaction:
            _change(transaction, delivery.id, next_try_at=None, delivered_at=now, error="")

    def failed(self, delivery: Delivery, error: str, next_try_at: float | None, now: float) -> None:
        """It did not arrive. It is tried again at a time, or given up (None), which is an event of its job.

        Receivers that did not hear of something are not told of that: `lines` of the event has them, from one such event to
        the next, so that two who are both away are not told of each other for ever.
        """
        with self._database.write(now) as transaction:
            current = transaction.lock(select(deliveries).where(deliveries.c.id == delivery.id)).one_or_none()
            if current is None or current.delivered_at is not None or current.tries != delivery.tries:
                return  # somebody else has tried since
            _change(transaction, delivery.id, next_try_at=next_try_at, error=error)
            if next_try_at is not None:
                return
            job = transaction.execute(select(jobs).where(jobs.c.id == delivery.event.job_id)).one()
            to = delivery.alert.email or delivery.alert.webhook
            message = f"{to} could not be told of {delivery.event.kind}, tried {delivery.tries} times: {error}"
            lines = [*delivery.event.data.get(FAILED_LINES, ()), current.line]
            data = {"event_id": delivery.event.id, FAILED_LINES: lines}
            transaction.emit(job, EventKind.ALERT_FAILED, message, data=data)

    def _is_due(self, now: float) -> bool:
        """Looked at first, as most often nothing is: reading makes no writer wait."""
        with self._database.read() as connection:
            one = select(deliveries.c.id).where(deliveries.c.next_try_at <= now).limit(1)
            return connection.execute(one).first() is not None

    def waiting(self) -> int:
        """How many are still to be delivered."""
        with self._database.read() as connection:
            due = select(func.count()).select_from(deliveries).where(deliveries.c.next_try_at.is_not(None))
            return int(connection.execute(due).scalar_one())


def _has_one_before() -> ColumnElement[bool]:
    """Something of the same line is still to arrive first."""
    earlier = deliveries.alias("earlier")
    same = earlier.c.line == deliveries.c.line
    return exists().where(same, earlier.c.id < deliveries.c.id, earlier.c.next_try_at.is_not(None))


def _change(transaction: Transaction, delivery_id: int, **values: Any) -> None:
    transaction.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.deliveries_id,
        alert=Alert.model_validate(row.deliveries_alert),
        event=Event(
            id=row.events_id,
            job_id=row.events_job_id,
            kind=EventKind(row.events_kind),
            time=row.events_time,
            attempt=row.events_attempt,
            message=row.events_message,
            data=row.events_data,
        ),
        project=row.events_project,
        job_name=row.job_name,
        tries=row.deliveries_tries + 1,
        since=row.deliveries_created_at,
    )
