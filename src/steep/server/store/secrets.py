"""Secrets, encrypted before they come here: this room never sees one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from steep.server.store.database import Database
from steep.server.store.tables import marks, projects, secrets
from steep.spec.api.house import SecretView
from steep.spec.errors import InvalidInput, NotFound

_KEY = "secrets.key"


class Secrets:
    """Encrypted bytes by project and name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_known(self, fingerprint: str, now: float, *, anew: bool = False) -> bool:
        """Whether secrets are encrypted with the key of a fingerprint. The first key that is asked about becomes theirs.

        Args:
            fingerprint: of a key; nobody can tell the key by it.
            now: the time.
            anew: it becomes theirs in place of another one, which is lost.
        """
        known = select(marks.c.value).where(marks.c.name == _KEY)
        with self._database.read() as connection:
            if connection.execute(known).scalar_one_or_none() == fingerprint:
                return True
        with self._database.write(now) as transaction:
            transaction.put(marks, {"name": _KEY, "value": fingerprint}, keep=not anew)
            return bool(transaction.execute(known).scalar_one() == fingerprint)

    def put(self, project: str, name: str, ciphertext: bytes, now: float) -> None:
        """Keep a secret; one of that name is replaced.

        Raises:
            InvalidInput: there is no such project.
        """
        with self._database.write(now) as transaction:
            if transaction.execute(select(projects.c.name).where(projects.c.name == project)).one_or_none() is None:
                raise InvalidInput(f"there is no project {project}", where="project")
            same = (secrets.c.project == project) & (secrets.c.name == name)
            created_at = transaction.execute(select(secrets.c.created_at).where(same)).scalar_one_or_none()
            transaction.put(
                secrets,
                {
                    "project": project,
                    "name": name,
                    "ciphertext": ciphertext,
                    "created_at": now if created_at is None else created_at,
                    "updated_at": now,
                },
            )

    def get(self, project: str, name: str) -> bytes:
        """The encrypted bytes of a secret.

        Raises:
            NotFound: the project has none of that name.
        """
        same = (secrets.c.project == project) & (secrets.c.name == name)
        with self._database.read() as connection:
            found = connection.execute(select(secrets.c.ciphertext).where(same)).scalar_one_or_none()
        if found is None:
            raise _none(project, name)
        return bytes(found)

    def list(self, project: str | None = None) -> Sequence[SecretView]:
        """Names of a project's secrets, or of all projects'."""
        query = select(secrets.c.name, secrets.c.project, secrets.c.created_at, secrets.c.updated_at)
        if project is not None:
            query = query.where(secrets.c.project == project)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(secrets.c.project, secrets.c.name))
            return [SecretView.model_validate(dict(row._mapping)) for row in rows]

    def delete(self, project: str, name: str, now: float) -> None:
        """Forget a secret.

        Raises:
            NotFound: the project has none of that name.
        """
        same = (secrets.c.project == project) & (secrets.c.name == name)
        with self._database.write(now) as transaction:
            if not transaction.change(delete(secrets).where(same)):
                raise _none(project, name)


def _none(project: str, name: str) -> NotFound:
    return NotFound(f"project {project} has no secret {name}", where="secret")
