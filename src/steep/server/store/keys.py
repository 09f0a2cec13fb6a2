"""API keys: shown once, kept as hashes, confined by role and project, revoked but never forgotten."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from steep.server.store.database import Database
from steep.server.store.ids import hash_of, is_token, new_id, new_token
from steep.server.store.paging import FIRST_PAGE, PageRequest, find
from steep.server.store.repeats import Idempotency, once_only
from steep.server.store.tables import key_use, keys, projects
from steep.spec.api.common import Page
from steep.spec.api.keys import KeyChange, KeyRequest, KeyUsage, KeyView, NewKey
from steep.spec.errors import Conflict, InvalidInput, NotFound

PREFIX = "steep_"
SHOWN_LETTERS = len(PREFIX) + 6
HOUR_SECONDS = 3600
ANSWER_SECONDS = 600.0
"""For so long a request whose answer was lost may be sent again to have it."""


_BY_SECRET = select(keys).where(keys.c.hash == bindparam("hash_of_secret"))  # made once: each request asks


class Keys:
    """API keys and how much they are used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        request: KeyRequest,
        now: float,
        *,
        once: Idempotency | None = None,
        letters: Callable[[str], str] | None = None,
    ) -> NewKey:
        """A new key, with the secret that is shown this once; the same request again, soon after, shows it again.

        Args:
            request: what it is to be.
            now: the time.
            once: names the request.
            letters: makes those of a secret out of the key's id, the same ones again, which nobody can guess; by default
                they are random.

        Raises:
            InvalidInput: there is no such project.
            Conflict: the idempotency key was used for another request, or too long ago to show a secret again.
        """
        key_id = new_id("key")
        secret = new_token(PREFIX) if letters is None else PREFIX + letters(key_id)
        row = {
            "id": key_id,
            "name": request.name,
            "prefix": secret[:SHOWN_LETTERS],
            "hash": hash_of(secret),
            "role": request.role,
            "project": request.project,
            "created_at": now,
            "expires_at": None if request.expires_in_seconds is None else now + request.expires_in_seconds,
        }
        with self._database.write(now) as transaction:
            before = once_only(transaction, once, key_id)
            if before is not None:
                return _shown_again(_row(transaction.connection, before), letters, now)
            named = select(projects.c.name).where(projects.c.name == request.project)
            if request.project is not None and transaction.execute(named).one_or_none() is None:
                raise InvalidInput(f"there is no project {request.project}", where="project")
            transaction.execute(insert(keys).values(row))
            view = _get(transaction.connection, key_id)
        return NewKey(**dict(view), secret=secret)

    def authenticate(self, secret: str, now: float) -> KeyView | None:
        """The key that has this secret, if it may be used now. Counts nothing; see `count_use`."""
        if not secret.startswith(PREFIX):
            return None
        with self._database.read() as connection:
            row = connection.execute(_BY_SECRET, {"hash_of_secret": hash_of(secret)}).one_or_none()
        if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        return _view(row)

    def get(self, key_id: str) -> KeyView:
        """One key, without its secret.

        Raises:
            NotFound: there is none of that id.
        """
        with self._database.read() as connection:
            return _get(connection, key_id)

    def list(self, page: PageRequest = FIRST_PAGE, *, of_projects: Collection[str] | None = None) -> Page[KeyView]:
        """A page of keys, the newest first, revoked ones too."""
        query = select(keys)
        if of_projects is not None:
            query = query.where(keys.c.project.in_(of_projects))
        sortable = {name: keys.c[name] for name in ("created_at", "name", "role", "last_used_at", "expires_at")}
        with self._database.read() as connection:
            found = find(connection, query, page, sortable, keys.c.id)
            return found.page(page, map(_view, found.rows))

    def change(self, key_id: str, change: KeyChange, now: float) -> KeyView:
        """Change its name or role.

        Raises:
            NotFound: there is none of that id.
            Conflict: it is revoked.
        """
        with self._database.write(now) as transaction:
            if _get(transaction.connection, key_id).revoked_at is not None:
                raise Conflict("the key is revoked", where=key_id, cure="Create a new one.")
            if values := change.model_dump(exclude_none=True):
                transaction.execute(update(keys).where(keys.c.id == key_id).values(**values))
            return _get(transaction.connection, key_id)

    def revoke(self, key_id: str, now: float) -> KeyView:
        """It opens nothing from now on; what it did is still known. A second time changes nothing."""
        with self._database.write(now) as transaction:
            _get(transaction.connection, key_id)
            living = (keys.c.id == key_id) & keys.c.revoked_at.is_(None)
            transaction.execute(update(keys).where(living).values(revoked_at=now))
            return _get(transaction.connection, key_id)

    def count_use(self, requests: Mapping[str, int], now: float) -> None:
        """Add requests by key. Collect some before: it need not be written for each."""
        with self._database.write(now, durable=False) as transaction:
            for key_id, count in sorted(requests.items()):  # always in this order, so that two replicas do not meet
                used = update(keys).where(keys.c.id == key_id).values(last_used_at=now)
                if transaction.change(used):
                    hour = {"key_id": key_id, "hour": int(now // HOUR_SECONDS), "count": count}
                    transaction.put(key_use, hour, add=("count",))

    def usage(self, key_id: str, now: float, *, bucket_seconds: int = HOUR_SECONDS, num_buckets: int = 24) -> KeyUsage:
        """Requests by hour, or by any number of whole hours; the last of the buckets is the one that `now` is in.

        Raises:
            NotFound: there is no such key.
            InvalidInput: the buckets are not whole hours, or none.
        """
        hours = bucket_seconds // HOUR_SECONDS
        if hours < 1 or bucket_seconds % HOUR_SECONDS or not 1 <= num_buckets <= 10_000:
            raise InvalidInput("use is counted by whole hours", where="bucket_seconds")
        last = int(now // bucket_seconds)
        first = last - num_buckets + 1
        with self._database.read() as connection:
            _get(connection, key_id)
            rows = connection.execute(
                select(key_use).where(key_use.c.key_id == key_id, key_use.c.hour >= first * hours)
            ).all()
        counts = [0] * num_buckets
        for row in rows:
            if row.hour // hours <= last:
                counts[row.hour // hours - first] += row.count
        return KeyUsage(since=float(first * bucket_seconds), bucket_seconds=bucket_seconds, counts=tuple(counts))


def _shown_again(row: Row[Any], letters: Callable[[str], str] | None, now: float) -> NewKey:
    """The answer that was lost. Much later, nobody waits for it any more; and made with another key, it would be a wrong one."""
    secret = None if letters is None else PREFIX + letters(row.id)
    if secret is None or now - row.created_at > ANSWER_SECONDS or not is_token(secret, row.hash):
        raise Conflict(
            "this request has made a key before, whose secret is not shown again",
            where=row.id,
            cure=f"If it was lost, `steep keys revoke {row.id}`, and make another one.",
        )
    return NewKey(**dict(_view(row)), secret=secret)


def _get(connection: Connection, key_id: str) -> KeyView:
    return _view(_row(connection, key_id))


def _row(connection: Connection, key_id: str) -> Row[Any]:
    row = connection.execute(select(keys).where(keys.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no key {key_id}", where="key", cure="`steep keys list` shows those that there are.")
    return row


def _view(row: Row[Any]) -> KeyView:
    return KeyView.model_validate({name: value for name, value in row._mapping.items() if name != "hash"})
