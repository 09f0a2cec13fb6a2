"""How attempts ended, as rows; and what a verdict on one writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from sqlalchemy import Row

from steep.server.failure import Cancel, Ending, Fail, Requeue, Retry, Succeed, Verdict, step_in
from steep.server.store.database import Transaction
from steep.server.store.standings import move_attempt, move_job
from steep.spec.api.common import Problem
from steep.spec.events import EventKind
from steep.spec.states import Reason, State


def ending_of(row: Row[Any], ending: Ending | None = None, deadline: float | None = None, now: float = 0.0) -> Ending:
    """How an attempt ended: as its row says, or as is told just now, with what the row adds to that.

    Args:
        row: of the attempt.
        ending: as told; None for one that ended earlier.
        deadline: seconds that the job gives each of its attempts, if it does.
        now: the time.
    """
    if ending is None:
        problem = None if row.error is None else Problem.model_validate(row.error)
        return Ending(exit_code=row.exit_code, problem=problem, step=row.step, detail=row.detail)
    step = ending.step
    if step is None and ending.problem is not None:
        step = step_in(ending.problem)
    passed = deadline is not None and row.worked_at is not None and now - row.started_at >= deadline
    return replace(ending, step=row.step if step is None else step, deadline_passed=ending.deadline_passed or passed)


def apply_verdict(transaction: Transaction, job: Row[Any], attempt: Row[Any], ending: Ending, verdict: Verdict) -> None:
    """Write the end of an attempt, what it used, and what becomes of its job."""
    _end_attempt(transaction, attempt, ending, verdict)
    seconds = max(transaction.now - attempt.started_at, 0.0)
    used = {
        "work_seconds": job.work_seconds + seconds,
        "gpu_seconds": job.gpu_seconds + attempt.gpus * seconds,
        "cost": job.cost + attempt.price_per_second * seconds,
    }

    def move(to: State, reason: Reason, detail: str, **values: Any) -> None:
        move_job(transaction, job, to, reason, detail, **used, **values)

    def tell(kind: EventKind, message: str, **data: Any) -> None:
        transaction.emit(job, kind, message, attempt=attempt.number, data=data)

    match verdict:
        case Succeed():
            move(State.SUCCEEDED, Reason.COMPLETED, "")
            tell(EventKind.SUCCEEDED, "complete")
        case Cancel(detail):
            move(State.CANCELLED, Reason.CANCELLED_BY_USER, detail)
            tell(EventKind.CANCELLED, detail)
        case Requeue(reason, detail):
            move(State.QUEUED, reason, detail)
            kind = EventKind.PAUSED if reason.is_hold else EventKind.PREEMPTED
            tell(kind, detail, reason=str(reason))
        case Retry(delay, detail):
            move(State.QUEUED, Reason.BACKING_OFF, detail, not_before=transaction.now + delay)
            tell(EventKind.RETRIED, detail, delay_seconds=delay, step=ending.step)
        case Fail(reason, detail):
            move(State.FAILED, reason, detail)
            problem = None if ending.problem is None else ending.problem.model_dump(mode="json")
            tell(EventKind.FAILED, detail, reason=str(reason), step=ending.step, problem=problem)
        case _:
            assert_never(verdict)


def _end_attempt(transaction: Transaction, attempt: Row[Any], ending: Ending, verdict: Verdict) -> None:
    problem = ending.problem
    values: dict[str, Any] = {
        "exit_code": ending.exit_code,
        "error": None if problem is None else problem.model_dump(mode="json"),
        "step": ending.step,
    }
    match verdict:
        case Succeed():
            move_attempt(transaction, attempt, State.SUCCEEDED, Reason.COMPLETED, "", **values)
        case Cancel(detail):
            move_attempt(transaction, attempt, State.CANCELLED, Reason.CANCELLED_BY_USER, detail, **values)
        case _ if ending.is_in_order:
            move_attempt(transaction, attempt, State.CANCELLED, Reason.STOPPED_RESUMABLE, ending.words, **values)
        case _:
            move_attempt(transaction, attempt, State.FAILED, ending.reason, ending.words, **values)
