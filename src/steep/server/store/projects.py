"""Projects: whose jobs, files, keys and secrets are whose, what each may use, and what it uses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from steep.server.store.database import Database
from steep.server.store.paging import FIRST_PAGE, PageRequest, find
from steep.server.store.repeats import Idempotency, once_only
from steep.server.store.tables import attempts, checkpoints, files, jobs, projects
from steep.spec.api.common import Page
from steep.spec.api.projects import Keeping, ProjectRequest, ProjectView, Quota
from steep.spec.errors import Conflict, InvalidInput, NotFound

DEFAULT = "default"
"""The project of jobs that name none; it is always there."""


@dataclass(frozen=True, slots=True)
class Prunable:
    """A job whose project keeps only some of its checkpoints."""

    job_id: str
    project: str
    keep_last: int
    keep_best: int


class Projects:
    """Projects and their quotas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, request: ProjectRequest, now: float, *, once: Idempotency | None = None) -> ProjectView:
        """A new project. The same request again returns the same one.

        Raises:
            Conflict: there is one of that name, or the key was used for another request.
        """
        with self._database.write(now) as transaction:
            if once_only(transaction, once, request.name) is not None:
                return _get(transaction.connection, request.name)
            if not transaction.put(projects, {**_columns(request), "created_at": now}, keep=True):
                raise Conflict(f"there is a project {request.name} already", where="name")
            return _get(transaction.connection, request.name)

    def ensure(self, name: str, now: float) -> None:
        """Make it, with no quota, unless it is there."""
        with self._database.write(now) as transaction:
            there = select(projects.c.name).where(projects.c.name == name)
            if transaction.execute(there).one_or_none() is None:
                transaction.execute(insert(projects).values(**_columns(ProjectRequest(name=name)), created_at=now))

    def change(self, request: ProjectRequest, now: float) -> ProjectView:
        """New settings of a project: those that the request gives. All others stay, and so does what is in use already.

        Raises:
            NotFound: there is none of that name.
        """
        with self._database.write(now) as transaction:
            _get(transaction.connection, request.name)
            values = _columns(request, request.model_fields_set)
            transaction.execute(update(projects).where(projects.c.name == request.name).values(**values))
            return _get(transaction.connection, request.name)

    def get(self, name: str) -> ProjectView:
        """One project and what it uses.

        Raises:
            NotFound: there is none of that name.
        """
        with self._database.read() as connection:
            return _get(connection, name)

    def list(self, page: PageRequest = FIRST_PAGE, *, names: Collection[str] | None = None) -> Page[ProjectView]:
        """A page of projects, by name."""
        query = select(projects) if names is None else select(projects).where(projects.c.name.in_(names))
        sortable = {name: projects.c[name] for name in ("name", "created_at", "share")}
        with self._database.read() as connection:
            found = find(connection, query, page, sortable, projects.c.name)
            return found.page(page, _views(connection, found.rows))

    def prunable(self, now: float) -> Sequence[Prunable]:
        """Jobs that ended so long ago that their project keeps only some of their checkpoints, and that have more."""
        there = select(func.count()).where(checkpoints.c.job_id == jobs.c.id, checkpoints.c.state != "deleted")
        has_more = (there.scalar_subquery() > projects.c.keep_last) | (jobs.c.aside_bytes > 0)
        wanted = (
            select(jobs.c.id, jobs.c.project, projects.c.keep_last, projects.c.keep_best)
            .join(projects, projects.c.name == jobs.c.project)
            .where(jobs.c.ended_at <= now - projects.c.keep_after, has_more)
            .order_by(jobs.c.ended_at, jobs.c.id)
        )
        with self._database.read() as connection:
            return [Prunable(*row) for row in connection.execute(wanted)]

    def all(self) -> Sequence[ProjectView]:
        """All of them, by name."""
        with self._database.read() as connection:
            return read_projects(connection)


def read_projects(connection: Connection) -> list[ProjectView]:
    """All projects and what they use, by name."""
    return _views(connection, connection.execute(select(projects).order_by(projects.c.name)).all())


def stored_bytes(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """Bytes of checkpoints and files, by project. It reads a row of every job."""
    stored = dict.fromkeys(names, 0)
    for table, column in ((jobs, jobs.c.stored_bytes), (files, files.c.size_bytes)):
        summed = select(table.c.project, func.sum(column)).where(table.c.project.in_(names)).group_by(table.c.project)
        for name, size_bytes in connection.execute(summed):
            stored[name] += int(size_bytes)
    return stored


def require_room(project: str, quota_bytes: int | None, stored: int, more_bytes: int) -> None:
    """Whether so many more bytes may be stored in a project.

    Raises:
        InvalidInput: they may not.
    """
    if quota_bytes is None or (stored < quota_bytes and stored + more_bytes <= quota_bytes):
        return
    what = "has filled its storage" if stored >= quota_bytes else "has no room for it in its storage"
    cure = "Delete files or jobs that it needs no more."
    raise InvalidInput(f"project {project} {what}", where="project", cure=cure)


def _get(connection: Connection, name: str) -> ProjectView:
    row = connection.execute(select(projects).where(projects.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(
            f"there is no project {name}", where="project", cure="`steep projects list` shows those that there are."
        )
    return _views(connection, [row])[0]


def _views(connection: Connection, rows: Collection[Row[Any]]) -> list[ProjectView]:
    names = [row.name for row in rows]
    in_use = {
        row.project: row
        for row in connection.execute(
            select(jobs.c.project, func.count().label("jobs"), func.sum(attempts.c.gpus).label("gpus"))
            .join(attempts, attempts.c.job_id == jobs.c.id)
            .where(jobs.c.project.in_(names), attempts.c.ended_at.is_(None))
            .group_by(jobs.c.project)
        )
    }
    stored = stored_bytes(connection, names)
    summed = select(jobs.c.project, func.sum(jobs.c.freed_bytes)).where(jobs.c.project.in_(names))
    freed = {name: int(size_bytes) for name, size_bytes in connection.execute(summed.group_by(jobs.c.project))}
    return [
        ProjectView(
            name=row.name,
            share=row.share,
            quota=Quota(gpus=row.quota_gpus, jobs=row.quota_jobs, stored_bytes=row.quota_stored_bytes),
            gpus_in_use=in_use[row.name].gpus if row.name in in_use else 0,
            jobs_in_use=in_use[row.name].jobs if row.name in in_use else 0,
            keep=Keeping(after_seconds=row.keep_after, last=row.keep_last, best=row.keep_best),
            stored_bytes=stored[row.name],
            freed_bytes=freed.get(row.name, 0),
            created_at=row.created_at,
        )
        for row in rows
    ]


def _columns(request: ProjectRequest, fields: Collection[str] = ProjectRequest.model_fields) -> dict[str, Any]:
    """Columns of some of its fields; of all of them for a new one."""
    quota, keep = request.quota, request.keep
    by_field: dict[str, dict[str, Any]] = {
        "name": {"name": request.name},
        "share": {"share": request.share},
        "quota": {"quota_gpus": quota.gpus, "quota_jobs": quota.jobs, "quota_stored_bytes": quota.stored_bytes},
        "keep": {"keep_after": keep.after_seconds, "keep_last": keep.last, "keep_best": keep.best},
    }
    return {column: value for field in fields for column, value in by_field[field].items()}
