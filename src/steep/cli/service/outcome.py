"""How a job ended, as the exit code and the error that `steep run` would have ended with."""

from __future__ import annotations

from steep.spec.api.common import Problem
from steep.spec.api.jobs import JobDetail
from steep.spec.errors import EXIT_INVALID, SteepError, Stopped, error_class
from steep.spec.states import Reason, State


def outcome_error(job: JobDetail) -> SteepError | None:
    """Why a job that has ended, or is held, is not done; None when it is.

    A held one stopped and can be resumed (exit code 3); one that failed because of what the user gave is invalid input (2).
    """
    standing = job.standing
    if standing.state is State.SUCCEEDED:
        return None
    if standing.is_paused:
        why = standing.detail.rstrip(".") or str(standing.reason).replace("_", " ")
        return Stopped(f"the job is paused: {why}", where=job.id, cure=f"`steep jobs resume {job.id}` lets it go on.")
    if standing.state is State.CANCELLED:
        return SteepError(
            "the job was cancelled", where=job.id, cure=f"`steep jobs clone {job.id}` makes a new one like it."
        )
    told = _last_problem(job)
    error = SteepError(
        _sentence(told) if told else standing.detail or "the job failed",
        where=(told.field if told else None) or job.id,
        cure=(told.cure if told else None) or f"`steep jobs logs {job.id}` shows what its worker said.",
    )
    error.exit_code = _exit_code(told, standing.reason)
    return error


def _last_problem(job: JobDetail) -> Problem | None:
    return next((one.error for one in reversed(job.attempt_list) if one.error is not None), None)


def _sentence(problem: Problem) -> str:
    return problem.detail or problem.title


def _exit_code(problem: Problem | None, reason: Reason) -> int:
    if reason is Reason.INVALID_INPUT:
        return EXIT_INVALID
    known = error_class(problem.code) if problem is not None and problem.code else None
    return known.exit_code if known is not None and not issubclass(known, Stopped) else SteepError.exit_code
