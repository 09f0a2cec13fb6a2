"""The audit log: each request that changes something, who made it, to what, and how it ended. Written before it is told."""

from __future__ import annotations

import asyncio
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steep.server.service import Service
from steep.spec.errors import SteepError

log = logging.getLogger(__name__)

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_BASE = "/api/v1"


class AuditTrail:
    """Writes an entry for each request that changes something, and for each that was refused for its key.

    Args:
        app: what is asked.
        service: whose log it is.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"].startswith(f"{_BASE}/attempts/"):
            await self._app(scope, receive, send)  # workers' reports are many, and are kept themselves
            return

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["method"] in _CHANGES or status in (401, 403):
                    await asyncio.to_thread(self._write, scope, status)
            await send(message)

        await self._app(scope, receive, send_recorded)

    def _write(self, scope: Scope, status: int) -> None:
        caller = scope.get("state", {}).get("caller")
        path = str(scope["path"]).removeprefix(_BASE)
        template = getattr(scope.get("route"), "path", path).removeprefix(_BASE)
        client = scope.get("client")
        outcome = "done" if status < 400 else "refused" if status < 500 else "failed"
        try:
            self._service.store.audit.record(
                caller.id if caller is not None else "nobody",
                f"{scope['method']} {template}",
                self._service.now(),
                subject=path[:500],
                project=caller.project if caller is not None else None,
                outcome=outcome,
                data={"status": status, "address": client[0] if client else ""},
            )
        except SteepError as error:
            log.warning("The audit log cannot be written: %s %s by %s: %s", scope["method"], path, caller, error)
