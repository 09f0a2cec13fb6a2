"""Who did what, and whether it was allowed. Entries are added and read; nothing changes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, insert, select

from steep.server.store.database import Database
from steep.server.store.paging import FIRST_PAGE, PageRequest, find
from steep.server.store.tables import audit
from steep.spec.api.common import Page
from steep.spec.api.house import AuditEntry


class Audit:
    """The audit log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        actor: str,
        action: str,
        now: float,
        *,
        subject: str = "",
        project: str | None = None,
        outcome: str = "done",
        data: dict[str, Any] | None = None,
    ) -> None:
        """Add an entry.

        Args:
            actor: id of the key, or `server`.
            action: such as `jobs.cancel`.
            now: the time.
            subject: what it was done to, such as a job's id.
            project: whose that is, if anybody's.
            outcome: `done`, `refused` or `failed`.
            data: facts, and no secret.
        """
        row = {
            "time": now,
            "actor": actor,
            "action": action,
            "subject": subject,
            "project": project,
            "outcome": outcome,
            "data": data or {},
        }
        with self._database.write(now) as transaction:
            transaction.execute(insert(audit).values(row))

    def list(
        self,
        page: PageRequest = FIRST_PAGE,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        projects: Collection[str] | None = None,
    ) -> Page[AuditEntry]:
        """A page of entries, the latest first."""
        query = select(audit)
        for column, value in ((audit.c.actor, actor), (audit.c.action, action), (audit.c.subject, subject)):
            if value is not None:
                query = query.where(column == value)
        if projects is not None:
            query = query.where(audit.c.project.in_(projects))
        sortable = {"time": audit.c.time, "actor": audit.c.actor, "action": audit.c.action}
        with self._database.read() as connection:
            found = find(connection, query, page, sortable, audit.c.id)
            return found.page(page, map(_entry, found.rows))


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry.model_validate(dict(row._mapping))
