"""What the worker's threads that speak with the server share: how they reach it, and what its orders mean."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from steep.spec.api.attempts import Directive
from steep.worker.attempt import Attempt

if TYPE_CHECKING:
    from steep.client.wire import Wire

_ORDERS: dict[Directive, str] = {
    "cancel": "the service asks to end the job",
    "pause": "the service asks to pause",
    "preempt": "the service asks to make room",
}


def connect(attempt: Attempt, timeout_seconds: float) -> Wire:
    """A line to the server of an attempt, which sends each request once.

    Args:
        attempt: with a server and a token.
        timeout_seconds: how long the server may be silent within a request.
    """
    from steep.client.requests import bearer
    from steep.client.transports import BlockingTransport
    from steep.client.wire import Wire

    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for each request, in the log that is sent
    assert attempt.server is not None
    assert attempt.token is not None
    server = attempt.server.rstrip("/")
    transport = BlockingTransport(server, bearer(attempt.token), timeout_seconds)
    return Wire(transport, server, patience_seconds=0.0)


def words_of(directive: Directive, detail: str) -> str | None:
    """An order in words, or nothing where none is given."""
    if directive == "none":
        return None
    return _ORDERS[directive] + (f": {detail}" if detail else "")
