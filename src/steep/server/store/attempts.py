"""Attempts: begun with devices, heard of, lost sight of, fenced, finished. Each step is one guarded transaction.

What may write for an attempt is its token, of which only the hash is kept. It opens writes of this attempt and of nothing
else, until the attempt has ended or was fenced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, bindparam, delete, select, update

from steep.compute.contract import Device
from steep.server.failure import Ending, FailurePolicy, History, Verdict, decide
from steep.server.store.atonce import read_at_once
from steep.server.store.beginnings import begin_attempt
from steep.server.store.database import Database, Transaction
from steep.server.store.endings import apply_verdict, ending_of
from steep.server.store.ids import hash_of, is_token, new_token
from steep.server.store.orders import fenced, order_to
from steep.server.store.reports import accept_reports
from steep.server.store.standings import (
    lock_attempt,
    lock_job,
    move_both,
    standing_of,
)
from steep.server.store.tables import attempts, device_leases, jobs
from steep.spec.api.attempts import ReportsAnswer, ReportsRequest
from steep.spec.errors import Conflict, Fenced, ServerUnavailable
from steep.spec.events import EventKind
from steep.spec.states import Reason, Standing, State


@dataclass(frozen=True, slots=True)
class Begun:
    """A new attempt, and the token that its worker writes with. The token is told this once."""

    job_id: str
    number: int
    token: str


@dataclass(frozen=True, slots=True)
class Living:
    """An attempt that has not ended, as those who watch over it need it.

    Args:
        handle: of the backend; None: nothing was submitted yet, or nobody wrote down that it was.
        stop_when_idle: seconds after which the job wants to be stopped when its GPUs do nothing.
    """

    job_id: str
    number: int
    standing: Standing
    backend: str
    handle: str | None
    devices: tuple[str, ...]
    lease_expires_at: float
    started_at: float
    worked_at: float | None
    revoked_at: float | None
    stop_when_idle: float | None
    deadline: float | None


class Told(NamedTuple):
    """What a worker says in one request, and the token that it says it with."""

    job_id: str
    number: int
    token: str
    request: ReportsRequest


class Attempts:
    """The life of attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def living(self, *, lapsed_at: float | None = None, without_handle: bool = False) -> list[Living]:
        """Attempts that have not ended, the longest unheard of first.

        Args:
            lapsed_at: those whose lease had run out at that time, those that are stopping too.
            without_handle: those that nothing was submitted for yet, or nobody wrote down that it was.
        """
        query = (
            select(*_LIVING, jobs.c.stop_when_idle, jobs.c.deadline)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(attempts.c.ended_at.is_(None))
            .order_by(attempts.c.lease_expires_at, attempts.c.job_id)
        )
        if lapsed_at is not None:
            query = query.where(attempts.c.lease_expires_at <= lapsed_at)
        if without_handle:
            query = query.where(attempts.c.handle.is_(None))
        with self._database.read() as connection:
            return [_living(row) for row in read_at_once(connection, query)]

    def begin(
        self,
        job_id: str,
        backend: str,
        devices: Sequence[Device],
        now: float,
        *,
        lease_seconds: float,
        price_per_second: float = 0.0,
    ) -> Begun:
        """Lend devices to a queued job, and begin an attempt: all of it or nothing.

        Args:
            job_id: the job.
            backend: where the devices are.
            devices: all that it gets.
            now: the time.
            lease_seconds: how long its worker may take until it is heard of.
            price_per_second: of all the devices together.

        Raises:
            Conflict: the job is not waiting (any more), one of the devices is lent, or its project's quota is used up.
                Nothing was written; whoever decided it looks again.
        """
        token = new_token()
        with self._database.write(now) as transaction:
            number = begin_attempt(
                transaction, job_id, backend, devices, hash_of(token), lease_seconds, price_per_second
            )
            return Begun(job_id, number, token)

    def provisioned(self, job_id: str, number: int, handle: str, now: float) -> None:
        """Write down the backend's handle of an attempt that was submitted to it.

        Raises:
            Conflict: the attempt has ended meanwhile, or has another handle: what was submitted is to be cancelled.
        """
        with self._database.write(now) as transaction:
            lock_job(transaction, job_id)
            attempt = lock_attempt(transaction, job_id, number)
            if attempt.ended_at is not None or attempt.handle not in (None, handle):
                raise Conflict(f"attempt {number} of {job_id} has ended or runs elsewhere", where=handle)
            transaction.execute(update(attempts).where(_is(job_id, number)).values(handle=handle))

    def record_reports(
        self, job_id: str, number: int, token: str, request: ReportsRequest, now: float, *, lease_seconds: float
    ) -> ReportsAnswer:
        """Take in what a worker says, once and in order, and renew its lease. An empty request is a heartbeat.

        The first one makes the attempt running; one of an unreachable attempt makes it running again. Reports and log lines
        that are there already are passed over; those after a gap are left, and the answer names the first that is missing.

        Args:
            job_id: the job.
            number: of the attempt.
            token: its token.
            request: what the worker says.
            now: the time.
            lease_seconds: for how long the lease holds from now.

        Raises:
            Fenced: the token opens nothing (any more). Nothing was written.
        """
        with self._database.write(now, durable=False) as transaction:
            return _record(transaction, Told(job_id, number, token, request), lease_seconds)

    def record_many(self, told: Sequence[Told], now: float, *, lease_seconds: float) -> list[ReportsAnswer | Exception]:
        """Take in what many workers say, as `record_reports` does for one, in one transaction: beginning and committing one
        for each would cost about as much as what is written.

        Returns, for each of them in their order, the answer, or what was raised for that one alone.
        """
        answers: dict[int, ReportsAnswer | Exception] = {}
        # by job, so that two replicas that take in the same jobs do not wait for each other
        order = sorted(range(len(told)), key=lambda place: (told[place].job_id, place))
        try:
            with self._database.write(now, durable=False) as transaction:
                for place in order:
                    try:
                        answers[place] = _record(transaction, told[place], lease_seconds)
                    except Fenced as error:  # before anything was written for it
                        answers[place] = error
        except Exception as error:  # noqa: BLE001 - of one of them, or of all; nothing was written for any
            if len(told) == 1 or isinstance(error, ServerUnavailable):
                return [error] * len(told)
            return [self.record_many([one], now, lease_seconds=lease_seconds)[0] for one in told]
        return [answers[place] for place in range(len(told))]

    def catch_up(self, job_id: str, number: int, request: ReportsRequest, now: float) -> ReportsAnswer:
        """Take in what the server itself read in a living attempt's run directory, such as what a worker that has ended
        could not send any more. Renews nothing and changes no state.

        Raises:
            Fenced: the attempt has ended.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            attempt = lock_attempt(transaction, job_id, number)
            if attempt.ended_at is not None:
                raise fenced(job_id, number)
            accepted = accept_reports(transaction, job, number, request)
            if accepted.step is not None:
                transaction.execute(update(attempts).where(_is(job_id, number)).values(step=accepted.step))
            return ReportsAnswer(next_report=accepted.next_report, next_log=accepted.next_log, lease_seconds=0.0)

    def expire_leases(self, now: float) -> list[tuple[str, int]]:
        """Call those unreachable whose lease has run out. Returns their job and number.

        Those that are stopping stay so: `living(lapsed_at=now)` names them too.
        """
        with self._database.write(now) as transaction:
            lapsed = transaction.execute(
                select(attempts.c.job_id, attempts.c.number)
                .where(attempts.c.ended_at.is_(None), attempts.c.lease_expires_at <= now)
                .where(attempts.c.state.in_((str(State.PROVISIONING), str(State.RUNNING))))
                .order_by(attempts.c.job_id)  # always in this order, so that two replicas do not wait for each other
            ).all()
            return [(one.job_id, one.number) for one in lapsed if self._expire(transaction, one.job_id, one.number)]

    def lose_contact(self, job_id: str, number: int, detail: str, now: float) -> bool:
        """Call an attempt unreachable because its backend cannot say what has become of it. Returns whether it was not yet."""
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            attempt = lock_attempt(transaction, job_id, number)
            if State(attempt.state) not in (State.PROVISIONING, State.RUNNING):
                return False
            _call_unreachable(transaction, job, attempt, Reason.BACKEND_SILENT, detail)
            return True

    def revoke(self, job_id: str, number: int, detail: str, now: float, *, if_silent: bool = False) -> bool:
        """Fence an attempt: its token opens nothing more. Its devices stay lent until it is finished.

        With `if_silent` one that is heard of, or was since somebody looked, stays open. Returns whether it was open until
        now, and is no more; an attempt that has ended was not.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            attempt = lock_attempt(transaction, job_id, number)
            is_closed = attempt.ended_at is not None or attempt.revoked_at is not None
            if is_closed or (if_silent and not _is_silent(attempt, now)):
                return False
            transaction.execute(update(attempts).where(_is(job_id, number)).values(revoked_at=now))
            transaction.emit(job, EventKind.FENCED, detail, attempt=number)
            return True

    def finish(
        self, job_id: str, number: int, ending: Ending, now: float, policy: FailurePolicy | None = None
    ) -> Verdict | None:
        """End an attempt: free its devices, and do with its job what `server/failure.py` says. One transaction.

        Call it when nothing of the worker runs any more, or when it is fenced and its devices are known to be free. An
        attempt that has ended already stays as it is.

        Args:
            job_id: the job.
            number: of the attempt.
            ending: how the worker ended. Its step and whether the deadline has passed are filled in where not known.
            now: the time.
            policy: how patient to be; the default one if None.

        Returns:
            What was decided; None: it had ended already.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            attempt = lock_attempt(transaction, job_id, number)
            if attempt.ended_at is not None:
                return None
            earlier = transaction.execute(
                select(attempts)
                .where(attempts.c.job_id == job_id, attempts.c.number < number)
                .order_by(attempts.c.number)
            ).all()
            whole = ending_of(attempt, ending, job.deadline, now)
            history = History(
                endings=[ending_of(row) for row in earlier],
                asked=Reason(attempt.reason) if State(attempt.state) is State.STOPPING else None,
                asked_words=attempt.detail if State(attempt.state) is State.STOPPING else "",
                max_attempts=job.max_attempts,
                policy=policy or FailurePolicy(),
            )
            verdict = decide(history, whole)
            apply_verdict(transaction, job, attempt, whole, verdict)
            lent = (device_leases.c.job_id == job_id) & (device_leases.c.attempt == number)
            transaction.execute(delete(device_leases).where(lent))
            return verdict

    @staticmethod
    def _expire(transaction: Transaction, job_id: str, number: int) -> bool:
        """Look again under the lock: it may have been heard of just now."""
        job = lock_job(transaction, job_id)
        attempt = lock_attempt(transaction, job_id, number)
        if (
            State(attempt.state) not in (State.PROVISIONING, State.RUNNING)
            or attempt.lease_expires_at > transaction.now
        ):
            return False
        silent = transaction.now - attempt.lease_expires_at
        detail = f"not heard of; its lease ran out {silent:.0f} s ago" if silent >= 1 else "not heard of in time"
        _call_unreachable(transaction, job, attempt, Reason.LEASE_EXPIRED, detail)
        return True


def _is(job_id: str, number: int) -> ColumnElement[bool]:
    return (attempts.c.job_id == job_id) & (attempts.c.number == number)


# Made once: workers report so often, and making statements anew took more than half of the time of taking a report in.
_IS_NAMED = (attempts.c.job_id == bindparam("named_job")) & (attempts.c.number == bindparam("named_number"))
_ITS_JOB = select(jobs).where(jobs.c.id == bindparam("named_job")).with_for_update(key_share=True)
_ITS_ROW = select(attempts).where(_IS_NAMED).with_for_update(key_share=True)
_THIS_ATTEMPT = update(attempts).where(_IS_NAMED)


def _named(job_id: str, number: int) -> dict[str, Any]:
    return {"named_job": job_id, "named_number": number}


def _record(transaction: Transaction, told: Told, lease_seconds: float) -> ReportsAnswer:
    """Take in what one worker says, and renew its lease. What its token does not open is refused before anything is written."""
    job, attempt = _open(transaction, told.job_id, told.number, told.token)
    _is_heard(transaction, job, attempt)
    accepted = accept_reports(transaction, job, told.number, told.request)
    renewed: dict[str, Any] = {"lease_expires_at": transaction.now + lease_seconds}
    if attempt.worked_at is None:
        renewed["worked_at"] = transaction.now
    if accepted.step is not None:
        renewed["step"] = accepted.step
    transaction.execute(_THIS_ATTEMPT, {**_named(told.job_id, told.number), **renewed})
    order = order_to(attempt)
    return ReportsAnswer(
        next_report=accepted.next_report,
        next_log=accepted.next_log,
        directive=order.directive,
        directive_detail=order.directive_detail,
        lease_seconds=lease_seconds,
    )


def _open(transaction: Transaction, job_id: str, number: int, token: str) -> tuple[Row[Any], Row[Any]]:
    """The rows that a token opens."""
    named = _named(job_id, number)
    job = transaction.execute(_ITS_JOB, named).one_or_none()
    if job is None:
        raise fenced(job_id, number)  # a deleted job's worker learns the same as any other that is none any more
    attempt = transaction.execute(_ITS_ROW, named).one_or_none()
    if attempt is None or not is_token(token, attempt.token_hash):
        raise fenced(job_id, number)
    if attempt.ended_at is not None or attempt.revoked_at is not None:
        raise fenced(job_id, number)
    return job, attempt


def _is_heard(transaction: Transaction, job: Row[Any], attempt: Row[Any]) -> None:
    """It works, if that is news."""
    before = State(attempt.state)
    if before is State.PROVISIONING or before is State.UNREACHABLE:
        move_both(transaction, job, attempt, State.RUNNING, Reason.WORKING, "")
    if attempt.worked_at is None:
        transaction.emit(job, EventKind.STARTED, f"attempt {attempt.number} works", attempt=attempt.number)
    elif before is State.UNREACHABLE:
        transaction.emit(job, EventKind.REACHED_AGAIN, "heard of again", attempt=attempt.number)


def _is_silent(attempt: Row[Any], now: float) -> bool:
    return attempt.lease_expires_at <= now and State(attempt.state) in (State.UNREACHABLE, State.STOPPING)


def _call_unreachable(transaction: Transaction, job: Row[Any], attempt: Row[Any], reason: Reason, detail: str) -> None:
    move_both(transaction, job, attempt, State.UNREACHABLE, reason, detail)
    transaction.emit(job, EventKind.UNREACHABLE, detail, attempt=attempt.number, data={"reason": str(reason)})


_LIVING = tuple(
    attempts.c[name]
    for name in (
        "job_id", "number", "state", "reason", "detail", "since", "backend", "handle", "devices", "lease_expires_at",
        "started_at", "worked_at", "revoked_at",
    )
)  # fmt: skip


def _living(row: Row[Any]) -> Living:
    return Living(
        job_id=row.job_id,
        number=row.number,
        standing=standing_of(row),
        backend=row.backend,
        handle=row.handle,
        devices=tuple(row.devices),
        lease_expires_at=row.lease_expires_at,
        started_at=row.started_at,
        worked_at=row.worked_at,
        revoked_at=row.revoked_at,
        stop_when_idle=row.stop_when_idle,
        deadline=row.deadline,
    )
