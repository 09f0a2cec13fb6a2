"""What goes wrong, as problem documents (RFC 9457): what, which field, what to do; never how the server is made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from steep.spec.api.common import Problem
from steep.spec.errors import (
    Conflict,
    DamagedArtifact,
    Fenced,
    Forbidden,
    InvalidInput,
    NotFound,
    OutOfSpace,
    RunBusy,
    ServerUnavailable,
    SteepError,
    Stopped,
    Unauthorized,
)
from steep.spec.load import parse_spec
from steep.spec.states import IllegalTransition
from steep.spec.wording import words_of

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class TooMany(ServerUnavailable):
    """More requests than one client may make; later ones are welcome."""

    code = "too_many_requests"


_STATUSES: dict[type[SteepError], int] = {
    TooMany: 429,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    RunBusy: 409,
    Fenced: 409,
    DamagedArtifact: 409,
    InvalidInput: 422,
    OutOfSpace: 507,
    Stopped: 409,
    ServerUnavailable: 503,
}
_TITLES = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    409: "Conflict",
    422: "Invalid",
    429: "Too many requests",
}
RETRY_SECONDS = 2


def status_of(error: SteepError) -> int:
    """The status of HTTP that an error stands for."""
    return next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)


def problem_of(error: SteepError) -> Problem:
    """The document that tells an error."""
    status = status_of(error)
    return Problem(
        title=_TITLES.get(status, error.code.replace("_", " ").capitalize()),
        status=status,
        detail=error.what,
        code=error.code,
        field=error.where,
        cure=error.cure,
    )


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The answer."""
    extra = dict(headers or {})
    if problem.status in (429, 503):
        extra.setdefault("Retry-After", str(RETRY_SECONDS))
    if problem.status == 401:
        extra.setdefault("WWW-Authenticate", "Bearer")
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, status_code=problem.status, headers=extra, media_type=MEDIA_TYPE)


def tell_problems(app: FastAPI) -> None:
    """From now on whatever is raised in a request is told as a problem."""
    app.add_exception_handler(SteepError, tell_steep_error)
    app.add_exception_handler(IllegalTransition, _illegal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


async def tell_steep_error(request: Request, error: Exception) -> Response:
    """The answer to a request that ends with an error of Steep's; the log hears of those that are the server's own."""
    assert isinstance(error, SteepError)
    problem = problem_of(error)
    if problem.status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return respond(problem)


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody reads it; what was begun for the request is undone already."""
    return respond(Problem(title="Cut off", status=400, detail="the request ended before its end", code="cut_off"))


async def _illegal(request: Request, error: Exception) -> Response:
    return respond(problem_of(Conflict(str(error))))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    issues = error.errors()
    first = issues[0]
    if first["type"] == "json_invalid":
        what = f"the body is not well-formed JSON, from character {first['loc'][-1]} on"
        return respond(Problem(title="Invalid", status=422, detail=what, code=InvalidInput.code, field="body"))
    if any(issue["loc"][:2] == ("body", "spec") for issue in issues) and isinstance(error.body, dict):
        spec = error.body.get("spec")
        if isinstance(spec, dict):
            try:
                parse_spec(spec)
            except SteepError as told:  # the same, with the names of keys that come close
                problem = problem_of(told).model_copy(update={"field": _field(first["loc"])})
                return respond(problem)
    detail = "; ".join(f"{_field(issue['loc']) or 'the request'}: {words_of(issue)}" for issue in issues[:20])
    return respond(
        Problem(
            title="Invalid",
            status=422,
            detail=detail,
            code=InvalidInput.code,
            field=_field(first["loc"]),
            cure="Mend it there; the OpenAPI document at /api/v1/openapi.json says what is known.",
        )
    )


def _field(location: Sequence[Any]) -> str:
    parts = location[1:] if location and location[0] in ("body", "query", "path", "header") else location
    return ".".join(str(part) for part in parts if not str(part).startswith(("function-", "literal[")))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    if status == 400:  # as for all other bodies that are none
        what = "the body cannot be read as what its Content-Type says; JSON is text in UTF-8"
        return respond(Problem(title="Invalid", status=422, detail=what, code=InvalidInput.code, field="body"))
    details = {
        404: f"there is no {request.url.path}",
        405: f"{request.method} is nothing that {request.url.path} knows",
    }
    codes = {404: NotFound.code, 405: "method_not_allowed"}
    title = _TITLES.get(status, "Not possible")
    problem = Problem(
        title=title, status=status, detail=details.get(status, str(error.detail)), code=codes.get(status, "refused")
    )
    return respond(problem, dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s went wrong", request.method, request.url.path, exc_info=error)
    return respond(
        Problem(
            title="Something went wrong",
            status=500,
            detail="something went wrong in the server; its log says what",
            code=SteepError.code,
            cure="Try again; if it stays, tell the operator the time and the path.",
        )
    )
