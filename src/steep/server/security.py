"""What every request and every answer goes through: size, rate, headers. Written as plain ASGI, so that streams stay streams."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steep.server.problems import TooMany, respond
from steep.server.settings import Bounds
from steep.spec.api.common import Problem

REMEMBERED = 10_000
"""Clients whose rates are known at the same time; the longest unheard of is forgotten first."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Bucket:
    """Allows so many at once, and so many a second over a while. May be used from any thread.

    Args:
        burst: at once.
        per_second: over a while.
    """

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float, *, cost: float = 1.0) -> bool:
        """Whether one more is allowed; if so, it is counted. At no cost it only asks."""
        with self._lock:
            left, at = self._left.pop(name, (self._burst, now))
            left = min(self._burst, left + max(now - at, 0.0) * self._per_second)
            allowed = left >= 1.0
            self._left[name] = (left - cost if allowed else left, now)
            if len(self._left) > REMEMBERED:
                self._left.popitem(last=False)
            return allowed


class Guard:
    """Rates: of requests by key, of wrong keys by address."""

    def __init__(self, bounds: Bounds) -> None:
        self._requests = Bucket(bounds.burst_requests, bounds.requests_per_second)
        self._failures = Bucket(bounds.failures_per_minute, bounds.failures_per_minute / 60)

    def admit(self, key_id: str) -> None:
        """Count a request of a key.

        Raises:
            TooMany: it makes more than it may.
        """
        if not self._requests.take(key_id, time.monotonic()):
            raise TooMany("this key makes more requests than it may", cure="Wait a moment, and ask less often.")

    def failed(self, request: Request) -> None:
        """Count a request with a wrong key.

        Raises:
            TooMany: there were too many from this address.
        """
        address = request.client.host if request.client else "nobody"
        if not self._failures.take(address, time.monotonic()):
            raise TooMany("there were too many wrong keys from your address", cure="Wait a minute.")


class Shield:
    """Refuses bodies that are too large, and gives each answer its headers.

    Args:
        app: what is shielded.
        bounds: of requests.
        upload_paths: where files are uploaded: larger bodies are expected there.
    """

    def __init__(self, app: ASGIApp, bounds: Bounds, upload_paths: frozenset[str]) -> None:
        self._app = app
        self._bounds = bounds
        self._upload_paths = upload_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] in self._upload_paths
        most = self._bounds.upload_bytes if is_upload else self._bounds.body_bytes

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            await respond(_too_large(most))(scope, receive, send_with_headers)
            return
        received, is_whole = 0, False

        async def receive_bounded() -> Message:
            nonlocal received, is_whole
            if is_whole:
                return await receive()  # that the client hangs up, for which a stream waits as long as it lives
            try:
                message = await asyncio.wait_for(receive(), self._bounds.silence_seconds)
            except TimeoutError:
                return {"type": "http.disconnect"}
            received += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            return message if received <= most else {"type": "http.disconnect"}

        await self._app(scope, receive_bounded, send_with_headers)


def _too_large(most: int) -> Problem:
    return Problem(
        title="Too large",
        status=413,
        detail=f"a request may have {most:,} bytes here",
        code="too_large",
        cure="Upload large things as files.",
    )
