"""What a server says went wrong, as an error of the one tree."""

from __future__ import annotations

from pydantic import ValidationError

from steep.client.requests import Answer
from steep.spec.api.common import Problem
from steep.spec.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ServerUnavailable,
    SteepError,
    Unauthorized,
    error_class,
)

PASSING = frozenset({429, 502, 503, 504})
"""Statuses that mean: not now, maybe later."""
NOTHING_DONE = frozenset({429, 503})
"""Those of them after which the server has surely done nothing."""

_BY_STATUS: dict[int, type[SteepError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    **dict.fromkeys(PASSING, ServerUnavailable),
}
_CURES: dict[type[SteepError], str] = {
    Unauthorized: "Give a key that is valid: `steep login`, or STEEP_KEY.",
    Forbidden: "Use a key with a higher role, or of that project.",
    ServerUnavailable: "Try again later.",
}


def error_of(answer: Answer, server: str) -> SteepError:
    """The error that an answer of 400 or more stands for; its `code` is the server's, even where it names no class."""
    problem = _problem(answer)
    kind = (error_class(problem.code) if problem.code else None) or _by_status(answer.status)
    error = kind(problem.detail or problem.title, where=problem.field or server, cure=problem.cure or _CURES.get(kind))
    error.code = problem.code or kind.code
    return error


def retry_after_seconds(answer: Answer) -> float | None:
    """How long the server asks to wait, where it says so in seconds."""
    try:
        return max(0.0, float(answer.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _by_status(status: int) -> type[SteepError]:
    return _BY_STATUS.get(status) or (InvalidInput if status < 500 else SteepError)


def _problem(answer: Answer) -> Problem:
    """The problem document; something between here and the server may have answered in its place without one."""
    try:
        return Problem.model_validate_json(answer.body)
    except ValidationError:
        return Problem(title=f"the server answered {answer.status} and did not say why", status=answer.status)
