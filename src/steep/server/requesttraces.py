"""A span for each request, as plain ASGI, so that streams stay streams."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steep.server.tracing import ATTEMPT, JOB, Traces, Value

_BASE = "/api/v1"
_PARENTS = (b"traceparent", b"tracestate", b"baggage")


class TraceRequests:
    """Traces each request.

    Args:
        app: what is asked.
        traces: where spans go.
    """

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = str(scope["method"])
        parent = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _PARENTS}
        status = 500

        async def send_noticed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._traces.span(method, {"http.request.method": method}, parent) as span:
            try:
                await self._app(scope, receive, send_noticed)
            finally:
                told: dict[str, Value] = {"http.route": _route(scope), "http.response.status_code": status}
                span.tell(told | _of(scope), name=f"{method} {_route(scope)}")


def _route(scope: Scope) -> str:
    """The path as the API's document has it, with names in place of ids."""
    path = str(getattr(scope.get("route"), "path", "")) or "unknown"
    is_api = str(scope["path"]).startswith(_BASE) and not path.startswith(_BASE)
    return _BASE + path if is_api else path


def _of(scope: Scope) -> dict[str, Value]:
    """The job and the attempt that a path names."""
    path: dict[str, str] = scope.get("path_params", {})
    found: dict[str, Value] = {JOB: path["job"]} if "job" in path else {}
    return found | ({ATTEMPT: int(path["number"])} if "number" in path else {})
