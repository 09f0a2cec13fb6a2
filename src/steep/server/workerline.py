"""The short way of workers' reports, which are nine of ten requests: past what the framework does for all others.

Only what is in good order goes this way. Anything else, such as a body that is none, goes to the route as if nothing had been
read of it, and is told there what is wrong with it.
"""

from __future__ import annotations

import re

from fastapi import Request
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steep.server.problems import tell_steep_error
from steep.server.routes.answers import answer
from steep.server.routes.attempts import router
from steep.server.service import Service
from steep.server.store.attempts import Told
from steep.spec.api.attempts import ReportsRequest
from steep.spec.errors import SteepError

_PATH = re.compile(r"/api/v1/attempts/([^/]{1,100})/([1-9][0-9]{0,8})/reports")
_ROUTE = next(route for route in router.routes if getattr(route, "name", "") == "report")


class WorkerLine:
    """Answers reports; what is none, or not in good order, goes on.

    Args:
        app: what is asked otherwise.
        service: which takes the reports in.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        found = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        token = found and _token(scope)
        if not found or not token:
            await self._app(scope, receive, send)
            return
        messages, body = await _read(receive)
        try:
            request = None if body is None else ReportsRequest.model_validate_json(body)
        except ValidationError:
            request = None
        if request is None:
            await self._app(scope, _again(messages, receive), send)
            return
        job, number = found[1], int(found[2])
        scope["route"], scope["path_params"] = _ROUTE, {"job": job, "number": number}  # which traces tell
        try:
            response = answer(await self._service.intake.take(Told(job, number, token, request)))
        except SteepError as error:
            response = await tell_steep_error(Request(scope), error)
        await response(scope, receive, send)


def _token(scope: Scope) -> str | None:
    """The token of a request with a JSON body."""
    headers = dict(scope["headers"])
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    is_json = headers.get(b"content-type", b"").startswith(b"application/json")
    return token.strip() if is_json and scheme.lower() == "bearer" else None


async def _read(receive: Receive) -> tuple[list[Message], bytes | None]:
    """All that is received of a request, and its body; None: it broke off."""
    messages: list[Message] = []
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return messages, None
        if not message.get("more_body", False):
            return messages, b"".join(one.get("body", b"") for one in messages)


def _again(messages: list[Message], receive: Receive) -> Receive:
    """Receives what was received, and then what comes."""
    left = iter(messages)

    async def receive_again() -> Message:
        return next(left, None) or await receive()

    return receive_again
