"""What goes wrong, as clients of OpenAI's API expect to be told: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steep.server.openai.shapes import ErrorAnswer, ErrorFields
from steep.server.problems import MEDIA_TYPE
from steep.server.routes.answers import JSON, WORDS, Documented
from steep.spec.api.common import Problem

BASE = "/v1"

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key"}
_WORDS = {
    **WORDS,
    400: "Something in the request is not valid; `param` names the field.",
    503: "Not now; try again.",
}


def errors(*statuses: int) -> Documented:
    """What the OpenAPI document says of what may go wrong."""
    told = sorted({400, 401, 403, 429, 503, *statuses})
    documented: Documented = {status: {"description": _WORDS[status], "model": ErrorAnswer} for status in told}
    return documented | {"default": {"description": "Whatever else goes wrong.", "model": ErrorAnswer}}


def error_of(problem: Problem) -> ErrorAnswer:
    """A problem in the other words. The message says all of it: it is what most programs show."""
    said = problem.detail or problem.title
    message = said[:1].upper() + said[1:]
    if problem.field:  # of several, the sentence names each by itself
        message = said if said.startswith(f"{problem.field}: ") else f"{problem.field}: {said}"
    message += "" if message.endswith((".", "!", "?")) else "."
    fields = ErrorFields(
        message=message if problem.cure is None else f"{message} {problem.cure}",
        type=_TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error"),
        param=problem.field or None,
        code=_CODES.get(problem.status, problem.code) or None,
    )
    return ErrorAnswer(error=fields)


def tell_errors(app: FastAPI) -> None:
    """From now on problems below `/v1` are told in these words. To be called after everything else that may tell one."""
    app.add_middleware(Translator)
    usual = app.exception_handlers[Exception]

    async def unexpected(request: Request, error: Exception) -> Response:
        """It is told outside of all middleware."""
        response: Response = await usual(request, error)  # type: ignore[misc]
        if not request.url.path.startswith(f"{BASE}/"):
            return response
        status, body = _translated(response.status_code, bytes(response.body))
        return Response(body, status_code=status, media_type=JSON)

    app.add_exception_handler(Exception, unexpected)


class Translator:
    """Turns problem documents below `/v1` into errors of OpenAI's kind, with the statuses that its clients know.

    Args:
        app: what may tell a problem.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not scope["path"].startswith(f"{BASE}/"):
            await self._app(scope, receive, send)
            return
        begun: Message | None = None
        body = b""

        async def send_translated(message: Message) -> None:
            nonlocal begun, body
            if message["type"] == "http.response.start" and _is_problem(message):
                begun = message
            elif begun is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await _send_error(begun, body, send)

        await self._app(scope, receive, send_translated)


async def _send_error(begun: Message, body: bytes, send: Send) -> None:
    status, text = _translated(begun["status"], body)
    start = {**begun, "status": status, "headers": list(begun["headers"])}
    headers = MutableHeaders(scope=start)
    headers["Content-Type"] = JSON
    headers["Content-Length"] = str(len(text))
    if status == 409:
        headers["X-Should-Retry"] = "false"  # clients would take it for a matter of luck
    await send(start)
    await send({"type": "http.response.body", "body": text})


def _is_problem(message: Message) -> bool:
    headers: Mapping[bytes, bytes] = dict(message["headers"])
    return headers.get(b"content-type", b"").startswith(MEDIA_TYPE.encode())


def _translated(status: int, body: bytes) -> tuple[int, bytes]:
    """The status and the body that are told instead; what is not valid is 400 there."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        problem = Problem(title="Something went wrong", status=status)
    return 400 if status == 422 else status, error_of(problem).model_dump_json().encode()


def as_event(problem: Problem) -> bytes:
    """A problem in the middle of a stream, as a line of it."""
    fields: dict[str, Any] = error_of(problem).model_dump(mode="json")
    return f"data: {json.dumps(fields)}\n\n".encode()
