"""Events: read in order, and never missed by who reads on from the last number it saw."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, Select, select

from steep.server.store.atonce import read_at_once
from steep.server.store.database import Database
from steep.server.store.paging import FIRST_PAGE, PageRequest, find
from steep.server.store.tables import counters, events
from steep.spec.api.common import Page
from steep.spec.events import Event, EventKind

MAX_EVENTS = 1000


class Events:
    """Events of all jobs. They are written by whatever makes them happen, in the same transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(
        self,
        last_id: int = 0,
        *,
        job_id: str | None = None,
        projects: Collection[str] | None = None,
        kinds: Collection[EventKind] = (),
        limit: int = MAX_EVENTS,
    ) -> list[Event]:
        """What happened after an event, the earliest first.

        Numbers of events grow in the order in which they become visible: nothing will ever come before one that was seen.

        Args:
            last_id: number of the last one that is known; 0 begins at the oldest that is kept.
            job_id: of this job only.
            projects: of jobs in these only; None: all of them.
            kinds: of these kinds only; empty: all of them.
            limit: this many at most.
        """
        query = _chosen(job_id, projects, kinds).where(events.c.id > last_id).order_by(events.c.id).limit(limit)
        with self._database.read() as connection:
            return [_event(row) for row in read_at_once(connection, query)]

    def list(
        self,
        page: PageRequest = FIRST_PAGE,
        *,
        job_id: str | None = None,
        projects: Collection[str] | None = None,
        kinds: Collection[EventKind] = (),
    ) -> Page[Event]:
        """A page of events, the earliest first unless something else is asked for."""
        sortable = {"id": events.c.id, "time": events.c.time}
        with self._database.read() as connection:
            found = find(connection, _chosen(job_id, projects, kinds), page, sortable, events.c.id)
            return found.page(page, map(_event, found.rows))

    def last_id(self) -> int:
        """Number of the newest event; 0 before there is one. Cheap: what a watcher asks again and again."""
        with self._database.read() as connection:
            newest: int = connection.execute(select(counters.c.value).where(counters.c.name == "events")).scalar_one()
            return newest


def _chosen(job_id: str | None, projects: Collection[str] | None, kinds: Collection[EventKind]) -> Select[Any]:
    query = select(events)
    if job_id is not None:
        query = query.where(events.c.job_id == job_id)
    if projects is not None:
        query = query.where(events.c.project.in_(projects))
    if kinds:
        query = query.where(events.c.kind.in_(map(str, kinds)))
    return query


def _event(row: Row[Any]) -> Event:
    return Event.model_construct(
        id=row.id,
        job_id=row.job_id,
        kind=EventKind(row.kind),
        time=row.time,
        attempt=row.attempt,
        message=row.message,
        data=row.data,
    )
