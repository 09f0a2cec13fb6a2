"""A new token for an attempt of which nobody knows whether its worker was started, or with which token."""

from __future__ import annotations

from sqlalchemy import update

from steep.server.store.database import Database
from steep.server.store.ids import hash_of, new_token
from steep.server.store.standings import lock_attempt, lock_job
from steep.server.store.tables import attempts
from steep.spec.errors import Conflict


class Tokens:
    """Tokens of attempts. The first one is made with the attempt, see `attempts.py`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def renew(self, job_id: str, number: int, now: float, *, lease_seconds: float) -> str:
        """Replace the token of an attempt that has no handle yet: whoever began it died before that was written.

        A worker that was started with the earlier token is told that it is fenced, ends, and is tried again.

        Raises:
            Conflict: the attempt has a handle, was fenced or has ended: nothing is to be mended.
        """
        token = new_token()
        with self._database.write(now) as transaction:
            lock_job(transaction, job_id)
            attempt = lock_attempt(transaction, job_id, number)
            if attempt.handle is not None or attempt.ended_at is not None or attempt.revoked_at is not None:
                raise Conflict(f"attempt {number} of {job_id} needs no new token", where=job_id)
            same = (attempts.c.job_id == job_id) & (attempts.c.number == number)
            values = {"token_hash": hash_of(token), "lease_expires_at": now + lease_seconds}
            transaction.execute(update(attempts).where(same).values(**values))
        return token
