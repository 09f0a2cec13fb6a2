"""Uploaded files: what they are and whose. Their bytes lie in the data directory, under their id."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from steep.server.store.database import Database
from steep.server.store.ids import new_id
from steep.server.store.paging import FIRST_PAGE, PageRequest, containing, find
from steep.server.store.projects import require_room, stored_bytes
from steep.server.store.repeats import Idempotency, once_only
from steep.server.store.tables import files, projects
from steep.spec.api.common import Page
from steep.spec.api.files import FileView
from steep.spec.errors import InvalidInput, NotFound


class Files:
    """Uploaded files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        name: str,
        project: str,
        size_bytes: int,
        blake3: str,
        now: float,
        *,
        created_by: str = "",
        file_id: str | None = None,
        once: Idempotency | None = None,
    ) -> FileView:
        """Write down a file whose bytes are in place already.

        Args:
            name: as its owner calls it.
            project: whose it is.
            size_bytes: its size.
            blake3: hash of its bytes.
            now: the time.
            created_by: who uploaded it.
            file_id: where one was made with `new_id("file")` before, to put its bytes in place.
            once: names the request: the same again returns the file that it made before.

        Raises:
            InvalidInput: there is no such project, or it may not store so much.
            Conflict: the key was used for another file.
            NotFound: the file was deleted since the same request made it.
        """
        new = file_id or new_id("file")
        row = {
            "id": new,
            "name": name,
            "project": project,
            "size_bytes": size_bytes,
            "blake3": blake3,
            "created_by": created_by,
            "created_at": now,
        }
        with self._database.write(now) as transaction:
            before = once_only(transaction, once, new)
            if before is not None:
                return _get(transaction.connection, before)
            # locked, so that two that come to their end at once cannot both see the same room
            owner = transaction.lock(select(projects).where(projects.c.name == project)).one_or_none()
            if owner is None:
                raise InvalidInput(f"there is no project {project}", where="project")
            if owner.quota_stored_bytes is not None:
                stored = stored_bytes(transaction.connection, [project])[project]
                require_room(project, owner.quota_stored_bytes, stored, size_bytes)
            transaction.execute(insert(files).values(row))
            return _get(transaction.connection, new)

    def get(self, file_id: str) -> FileView:
        """One file.

        Raises:
            NotFound: there is none of that id.
        """
        with self._database.read() as connection:
            return _get(connection, file_id)

    def ids(self) -> frozenset[str]:
        """Of all of them."""
        with self._database.read() as connection:
            return frozenset(connection.execute(select(files.c.id)).scalars())

    def list(
        self, page: PageRequest = FIRST_PAGE, *, of_projects: Collection[str] | None = None, name: str | None = None
    ) -> Page[FileView]:
        """A page of files, the newest first."""
        query = select(files)
        if of_projects is not None:
            query = query.where(files.c.project.in_(of_projects))
        if name:
            query = query.where(containing(files.c.name, name))
        sortable = {name: files.c[name] for name in ("created_at", "name", "size_bytes")}
        with self._database.read() as connection:
            found = find(connection, query, page, sortable, files.c.id)
            return found.page(page, map(_view, found.rows))

    def delete(self, file_id: str, now: float) -> FileView:
        """Forget a file; delete its bytes after it. Returns what it was.

        Raises:
            NotFound: there is none of that id.
        """
        with self._database.write(now) as transaction:
            view = _get(transaction.connection, file_id)
            transaction.execute(delete(files).where(files.c.id == file_id))
            return view


def _get(connection: Connection, file_id: str) -> FileView:
    row = connection.execute(select(files).where(files.c.id == file_id)).one_or_none()
    if row is None:
        raise NotFound(
            f"there is no file {file_id}", where="file", cure="`steep files list` shows those that there are."
        )
    return _view(row)


def _view(row: Row[Any]) -> FileView:
    return FileView.model_validate(dict(row._mapping))
