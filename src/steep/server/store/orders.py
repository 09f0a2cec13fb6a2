"""What the service wants of workers: of one that asks with its token, and of all at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, or_, select

from steep.server.store.database import Database
from steep.server.store.ids import is_token
from steep.server.store.tables import attempts
from steep.spec.api.attempts import Directive, OrderAnswer
from steep.spec.errors import Fenced
from steep.spec.states import Reason, State

DIRECTIVES: dict[Reason, Directive] = {
    Reason.CANCEL_REQUESTED: "cancel",
    Reason.PREEMPT_REQUESTED: "preempt",
    Reason.PAUSE_REQUESTED: "pause",
    Reason.LIMIT_REACHED: "pause",
    Reason.GUARD_STOPPED: "pause",
    Reason.DEVICES_IDLE: "pause",
}


class AttemptName(NamedTuple):
    """Which attempt of which job."""

    job_id: str
    number: int


class Orders:
    """Attempts that should stop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def wanted(self, job_id: str, number: int, token: str) -> OrderAnswer:
        """What is wanted of an attempt now. Renews nothing.

        Raises:
            Fenced: the token opens nothing (any more).
        """
        query = select(attempts).where(attempts.c.job_id == job_id, attempts.c.number == number)
        with self._database.read() as connection:
            attempt = connection.execute(query).one_or_none()
        if attempt is None or not is_token(token, attempt.token_hash):
            raise fenced(job_id, number)
        if attempt.ended_at is not None or attempt.revoked_at is not None:
            raise fenced(job_id, number)
        return order_to(attempt)

    def standing(self) -> Mapping[AttemptName, OrderAnswer | None]:
        """What is wanted of all living attempts that should stop; None: the attempt is fenced. One short query."""
        query: Select[Any] = select(
            attempts.c.job_id, attempts.c.number, attempts.c.state, attempts.c.reason, attempts.c.detail,
            attempts.c.revoked_at,
        ).where(
            attempts.c.ended_at.is_(None),
            or_(attempts.c.state == str(State.STOPPING), attempts.c.revoked_at.is_not(None)),
        )  # fmt: skip
        with self._database.read() as connection:
            return {
                AttemptName(row.job_id, row.number): None if row.revoked_at is not None else order_to(row)
                for row in connection.execute(query)
            }


def order_to(attempt: Row[Any]) -> OrderAnswer:
    """What is wanted of an attempt, as its row says."""
    if State(attempt.state) is not State.STOPPING:
        return OrderAnswer()
    return OrderAnswer(directive=DIRECTIVES[Reason(attempt.reason)], directive_detail=attempt.detail)


def fenced(job_id: str, number: int) -> Fenced:
    """What a worker is told whose token opens nothing."""
    return Fenced(
        "this token opens nothing (any more): the attempt has ended, or was fenced", where=f"{job_id}/{number}"
    )
