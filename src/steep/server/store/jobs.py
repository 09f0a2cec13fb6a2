"""Jobs: submitted, held, let go on, told to stop, changed, deleted."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, select, update

from steep.server.failure import AS_ASKED
from steep.server.store.database import Database, Transaction
from steep.server.store.ids import new_id
from steep.server.store.job_views import (
    ALL_JOBS,
    JobFilter,
    JobOwner,
    find_jobs,
    get_attempts,
    get_detail,
    get_job,
    get_owner,
    get_spec,
)
from steep.server.store.paging import FIRST_PAGE, PageRequest
from steep.server.store.repeats import Idempotency, once_only
from steep.server.store.standings import (
    lock_job,
    lock_living,
    move_attempt,
    move_job,
    standing_of,
)
from steep.server.store.submissions import JobKind, insert_job, insert_tags, require_project
from steep.server.store.tables import job_tags, jobs
from steep.spec.api.common import Page
from steep.spec.api.jobs import AttemptView, JobChange, JobDetail, JobView, Outcome
from steep.spec.errors import Conflict
from steep.spec.events import EventKind
from steep.spec.job import JobSpec
from steep.spec.states import Reason, Standing, State

_GOING_ON = (State.QUEUED, State.PROVISIONING, State.RUNNING, State.UNREACHABLE)
_STOP_RANKS = {
    Reason.PREEMPT_REQUESTED: 0,
    Reason.DEVICES_IDLE: 1,
    Reason.PAUSE_REQUESTED: 1,
    Reason.LIMIT_REACHED: 1,
    Reason.GUARD_STOPPED: 1,
    Reason.CANCEL_REQUESTED: 2,
}  # a request overrides those of a lower rank, and no others


class Jobs:
    """All that users, and loops on their behalf, do to jobs. Attempts are in `attempts.py`, the queue in `queue.py`."""

    def __init__(self, database: Database, currency: str = "USD") -> None:
        self._database = database
        self._currency = currency

    # ------------------------------------------------------------------------------------------------------- reading

    def get(self, job_id: str, now: float) -> JobView:
        """One job. Its place in the queue is told by `store.queue`.

        Raises:
            NotFound: there is none of that id.
        """
        with self._database.read() as connection:
            return get_job(connection, job_id, now, currency=self._currency)

    def owner(self, job_id: str) -> JobOwner:
        """Whose a job is, and of which kind: far less to read than all of it.

        Raises:
            NotFound: there is none of that id.
        """
        with self._database.read() as connection:
            return get_owner(connection, job_id)

    def detail(self, job_id: str, now: float) -> JobDetail:
        """One job with its spec and its attempts."""
        with self._database.read() as connection:
            return get_detail(connection, job_id, now, currency=self._currency)

    def spec(self, job_id: str) -> JobSpec:
        """A job's spec, as it was submitted."""
        with self._database.read() as connection:
            return get_spec(connection, job_id)

    def attempts(self, job_id: str) -> tuple[AttemptView, ...]:
        """A job's attempts, the first one first."""
        with self._database.read() as connection:
            return get_attempts(connection, job_id)

    def list(self, now: float, chosen: JobFilter = ALL_JOBS, page: PageRequest = FIRST_PAGE) -> Page[JobView]:
        """A page of jobs, newest first unless something else is asked for. See `JobFilter` and `job_views.SORTABLE`."""
        with self._database.read() as connection:
            return find_jobs(connection, now, chosen, page, currency=self._currency)

    def branched_at(self, job_id: str) -> set[int]:
        """The steps whose checkpoints other jobs go on from."""
        children = select(jobs.c.parent_step).where(jobs.c.parent == job_id, jobs.c.kind == "training")
        with self._database.read() as connection:
            return {step for step in connection.execute(children).scalars() if step is not None}

    # ---------------------------------------------------------------------------------------------------- submission

    def submit(
        self,
        spec: JobSpec,
        now: float,
        *,
        created_by: str = "",
        parent: tuple[str, int] | None = None,
        idempotency_key: Idempotency | None = None,
        job_id: str | None = None,
        kind: JobKind = "training",
    ) -> tuple[JobView, bool]:
        """Queue a new job, held if its spec says so. Returns it, and whether it is new.

        Args:
            spec: resolved: it is what the worker will get.
            now: the time.
            created_by: who.
            parent: the job that it branches from, and the step of the checkpoint that it goes on from.
            idempotency_key: the same again returns the same job, whatever has become of it.
            job_id: its id, where one was made with `new_id("job")` before, to put its files in place.
            kind: whether it trains, or measures its parent's checkpoint.

        Raises:
            InvalidSpec: there is no such project.
            Conflict: the key was used for another request.
        """
        with self._database.write(now) as transaction:
            new = job_id or new_id("job")
            before = once_only(transaction, idempotency_key, new)
            if before is not None:
                return get_job(transaction.connection, before, now, currency=self._currency), False
            require_project(transaction, spec.service.project)
            insert_job(transaction, new, spec, created_by, parent, kind)
            return get_job(transaction.connection, new, now, currency=self._currency), True

    # ------------------------------------------------------------------------------------------------------ steering

    def hold(self, job_id: str, reason: Reason, detail: str, now: float) -> Standing:
        """Pause a queued job: it waits until it is released.

        Args:
            job_id: the job.
            reason: a reason to be held, such as `held_by_user`.
            detail: a sentence.
            now: the time.

        Raises:
            Conflict: it is not queued.
            IllegalTransition: that is no reason to be queued.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            if State(job.state) is not State.QUEUED:
                raise _does_not_fit(job, "held; ask it to stop instead")
            return _hold(transaction, job, reason, detail)

    def release(self, job_id: str, now: float, detail: str = "") -> Standing:
        """Let a held job go on. One that is still stopping because of a pause goes on once it has stopped.

        One that waits or works already stays as it is: the answer to the same request may have been lost.

        Raises:
            Conflict: it has ended, or stops for good.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            reason = Reason(job.reason)
            if State(job.state) is State.STOPPING and reason in (Reason.PAUSE_REQUESTED, Reason.DEVICES_IDLE):
                transaction.emit(job, EventKind.RELEASED, detail or "goes on once it has stopped")
                return _stop(transaction, job, Reason.PREEMPT_REQUESTED, detail or "goes on once it has stopped")
            if not standing_of(job).is_paused:
                if State(job.state) in _GOING_ON:
                    return standing_of(job)
                raise _does_not_fit(job, "resumed: it is not paused")
            # at once, which is no time of day: a clock that is ahead now would else make it wait once it is right again
            standing = move_job(transaction, job, State.QUEUED, Reason.RESUMED, detail, queued_at=now, not_before=0.0)
            transaction.emit(job, EventKind.RELEASED, detail)
            return standing

    def put_off(self, job_id: str, detail: str, now: float, *, delay_seconds: float) -> None:
        """Have a waiting job wait for a while, and say why. One that does not wait any more stays as it is."""
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            standing = standing_of(job)
            if standing.state is not State.QUEUED or standing.is_paused:
                return
            move_job(transaction, job, State.QUEUED, Reason.BACKING_OFF, detail, not_before=now + delay_seconds)
            if standing.reason is not Reason.BACKING_OFF:
                transaction.emit(job, EventKind.QUEUED, detail, data={"reason": str(Reason.BACKING_OFF)})

    def request_stop(self, job_id: str, reason: Reason, detail: str, now: float) -> Standing:
        """Ask a job to stop. Its worker learns of it with the answer to its next report, and saves a checkpoint first.

        A queued job ends at once (cancel) or is held at once; to be preempted, it has nothing to give. A cancel overrides
        every other request, and a preemption none. Asking for the same again changes nothing.

        Args:
            job_id: the job.
            reason: of `stopping`: cancel_requested, pause_requested, preempt_requested, limit_reached, guard_stopped
                or devices_idle.
            detail: a sentence: who asks, or why.
            now: the time.

        Returns:
            Where the job stands then.

        Raises:
            Conflict: it has ended, unless it was cancelled and is to be again.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            standing = standing_of(job)
            if standing.is_terminal:
                if standing.state is State.CANCELLED and reason is Reason.CANCEL_REQUESTED:
                    return standing
                raise _does_not_fit(job, "stopped")
            if standing.state is not State.QUEUED:
                asked = _STOP_RANKS.get(standing.reason, -1) if standing.state is State.STOPPING else -1
                return _stop(transaction, job, reason, detail) if _STOP_RANKS[reason] > asked else standing
            if reason is Reason.CANCEL_REQUESTED:
                return _cancel(transaction, job, detail)
            if reason is Reason.PREEMPT_REQUESTED or standing.is_paused:
                return standing
            return _hold(transaction, job, AS_ASKED[reason], detail)

    # ------------------------------------------------------------------------------------------------------- changes

    def change(self, job_id: str, change: JobChange, now: float) -> JobView:
        """Change its priority, tags or limits; of these, those that are given. A limit that is given as None is none any more.

        Raises:
            Conflict: it has ended, and more than its tags is to be changed.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            values: dict[str, Any] = {}
            if change.priority is not None:
                values["priority"] = change.priority
            if change.limits is not None:
                values["limits"] = {**job.limits, **change.limits.model_dump(mode="json", exclude_unset=True)}
            if values and standing_of(job).is_terminal:
                raise _does_not_fit(job, "changed, except for its tags")
            if change.tags is not None:
                transaction.execute(delete(job_tags).where(job_tags.c.job_id == job_id))
                insert_tags(transaction, job_id, change.tags)
            if values:
                transaction.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            return get_job(transaction.connection, job_id, now, currency=self._currency)

    def set_outcome(self, job_id: str, outcome: Outcome, now: float) -> None:
        """Record what it came to, as `results.json` has it. Says nothing about its state."""
        with self._database.write(now) as transaction:
            lock_job(transaction, job_id)
            values = {"outcome": outcome.model_dump(mode="json")}
            transaction.execute(update(jobs).where(jobs.c.id == job_id).values(**values))

    def tell(
        self,
        job_id: str,
        kind: EventKind,
        message: str,
        now: float,
        *,
        attempt: int | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Add an event that goes with no change of state, such as `guard_triggered` or `rolled_back`."""
        with self._database.write(now) as transaction:
            transaction.emit(lock_job(transaction, job_id), kind, message, attempt=attempt, data=data)

    def tell_limit(self, job_id: str, mark: str, kind: EventKind, message: str, now: float) -> bool:
        """Add an event about a limit, unless it was told: each is told once. Returns whether it is new.

        Args:
            job_id: the job.
            mark: names what is told, see `server/limits.py`.
            kind: limit_warned or limit_reached.
            message: a sentence.
            now: the time.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            if mark in job.limits_told or standing_of(job).is_terminal:
                return False
            told = {"limits_told": [*job.limits_told, mark]}
            transaction.execute(update(jobs).where(jobs.c.id == job_id).values(**told))
            transaction.emit(job, kind, message, data={"limit": mark})
            return True

    def delete(self, job_id: str, now: float) -> None:
        """Forget a job that has ended, with its attempts, events, logs and checkpoints' rows. Delete its files first.

        Raises:
            Conflict: it has not ended.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            if not standing_of(job).is_terminal:
                raise _does_not_fit(job, "deleted; cancel it first")
            transaction.execute(delete(jobs).where(jobs.c.id == job_id))


def _hold(transaction: Transaction, job: Row[Any], reason: Reason, detail: str) -> Standing:
    standing = move_job(transaction, job, State.QUEUED, reason, detail)
    transaction.emit(job, EventKind.PAUSED, detail, data={"reason": str(reason)})
    return standing


def _stop(transaction: Transaction, job: Row[Any], reason: Reason, detail: str) -> Standing:
    attempt = lock_living(transaction, job.id)
    assert attempt is not None, "a job that is not queued and has not ended has a living attempt"
    move_attempt(transaction, attempt, State.STOPPING, reason, detail)
    standing = move_job(transaction, job, State.STOPPING, reason, detail)
    transaction.emit(job, EventKind.STOPPING, detail, attempt=attempt.number, data={"reason": str(reason)})
    return standing


def _cancel(transaction: Transaction, job: Row[Any], detail: str) -> Standing:
    standing = move_job(transaction, job, State.CANCELLED, Reason.CANCELLED_BY_USER, detail)
    transaction.emit(job, EventKind.CANCELLED, detail)
    return standing


def _does_not_fit(job: Row[Any], what: str) -> Conflict:
    how = {"queued": "is queued", "succeeded": "has succeeded", "failed": "has failed", "cancelled": "was cancelled"}
    return Conflict(f"{job.name} {how.get(job.state, f'is {job.state}')} and cannot be {what}", where=job.id)
