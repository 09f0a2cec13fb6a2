"""The only place where a state is written. Jobs and attempts move by `spec/states.advance`, and in step with each other.

A job that holds devices has one living attempt, whose state and reason are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Row, Table, Update, bindparam, select, update

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
    row = transaction.execute(_JOB, {"named_job": job_id}).one_or_none()
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
    row = transaction.execute(_ATTEMPT, {"named_job": job_id, "named_number": number}).one_or_none()
    if row is None:
        raise NotFound(f"job {job_id} has no attempt {number}", where="attempt")
    return row


def lock_living(transaction: Transaction, job_id: str) -> Row[Any] | None:
    """The row of a job's living attempt, if it has one; lock its job first."""
    return transaction.execute(_LIVING, {"named_job": job_id}).one_or_none()


# Made once: to make a statement takes as long as to run it, and each transition begins with these. See `Transaction.lock`.
_JOB = select(jobs).where(jobs.c.id == bindparam("named_job")).with_for_update(key_share=True)
_ATTEMPTS = select(attempts).where(attempts.c.job_id == bindparam("named_job")).with_for_update(key_share=True)
_ATTEMPT = _ATTEMPTS.where(attempts.c.number == bindparam("named_number"))
_LIVING = _ATTEMPTS.where(attempts.c.ended_at.is_(None))


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
    new = {**columns_of(standing), "version": before.version + 1, **values}
    named = {f"named_{name}": value for name, value in {**key, "version": before.version}.items()}
    if transaction.change(_update_of(table, tuple(key)), {**named, **new}) != 1:
        raise Conflict(f"{table.name} {' '.join(map(str, key.values()))} changed meanwhile", where=table.name)


@cache
def _update_of(table: Table, key: tuple[str, ...]) -> Update:
    """Of the row of a key, in a version; its new values are given with it."""
    return update(table).where(*(table.c[name] == bindparam(f"named_{name}") for name in (*key, "version")))
