"""The only place where a state is written. Jobs and attempts move by `spec/states.advance`, and in step with each other.

A job that holds devices has one living attempt, whose state and reason are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, Select, Table, and_, select, update

from steep.server.store.database import Transaction
from steep.server.store.tables import attempts, jobs
from steep.spec.errors import Conflict, NotFound
from steep.spec.states import Reason, Standing, State, advance


def standing_of(row: Row[Any]) -> Standing:
    """Where a row of `jobs` or `attempts` stands."""
    return Standing.model_construct(
        state=State(row.state), reason=Reason(row.reason), detail=row.detail, since=row.since
    )


def columns_of(standing: Standing) -> dict[str, Any]:
    """A standing as its columns."""
    return {
        "state": str(standing.state),
        "reason": str(standing.reason),
        "detail": standing.detail,
        "since": standing.since,
    }


def lock_job(transaction: Transaction, job_id: str) -> Row[Any]:
    """A job's row, which nobody else may change before the transaction is over.

    Raises:
        NotFound: there is none.
    """
    row = transaction.lock(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise no_job(job_id)
    return row


def no_job(job_id: str) -> NotFound:
    """There is no job of that id."""
    return NotFound(f"there is no job {job_id}", where="job", cure="`steep jobs list` shows those that there are.")


def lock_attempt(transaction: Transaction, job_id: str, number: int) -> Row[Any]:
    """An attempt's row; lock its job first.

    Raises:
        NotFound: there is none.
    """
    row = transaction.lock(_attempts_of(job_id).where(attempts.c.number == number)).one_or_none()
    if row is None:
        raise NotFound(f"job {job_id} has no attempt {number}", where="attempt")
    return row


def lock_living(transaction: Transaction, job_id: str) -> Row[Any] | None:
    """The row of a job's living attempt, if it has one; lock its job first."""
    return transaction.lock(_attempts_of(job_id).where(attempts.c.ended_at.is_(None))).one_or_none()


def _attempts_of(job_id: str) -> Select[Any]:
    return select(attempts).where(attempts.c.job_id == job_id)


def move_job(
    transaction: Transaction, job: Row[Any], to: State, reason: Reason, detail: str, **values: Any
) -> Standing:
    """Write a job's next standing, and further columns with it.

    Raises:
        IllegalTransition: nothing was written.
        Conflict: the row is not the newest.
    """
    standing = advance(standing_of(job), to, reason, detail, transaction.now)
    if standing.is_terminal:
        values.setdefault("ended_at", transaction.now)
    _write(transaction, jobs, {"id": job.id}, job, standing, values)
    return standing


def move_attempt(
    transaction: Transaction, attempt: Row[Any], to: State, reason: Reason, detail: str, **values: Any
) -> Standing:
    """Write an attempt's next standing, and further columns with it; see `move_job`."""
    standing = advance(standing_of(attempt), to, reason, detail, transaction.now)
    if standing.is_terminal:
        values.setdefault("ended_at", transaction.now)
    key = {"job_id": attempt.job_id, "number": attempt.number}
    _write(transaction, attempts, key, attempt, standing, values)
    return standing


def move_both(
    transaction: Transaction, job: Row[Any], attempt: Row[Any], to: State, reason: Reason, detail: str
) -> None:
    """Write the next standing of a job and of its living attempt."""
    move_attempt(transaction, attempt, to, reason, detail)
    move_job(transaction, job, to, reason, detail)


def _write(
    transaction: Transaction,
    table: Table,
    key: Mapping[str, Any],
    before: Row[Any],
    standing: Standing,
    values: Mapping[str, Any],
) -> None:
    same = and_(*(table.c[name] == value for name, value in key.items()), table.c.version == before.version)
    changed = transaction.change(
        update(table).where(same).values(**columns_of(standing), version=before.version + 1, **values)
    )
    if changed != 1:
        raise Conflict(f"{table.name} {' '.join(map(str, key.values()))} changed meanwhile", where=table.name)
