"""Requests to stop: SIGTERM, SIGINT, the job's deadline, the service. The work asks between steps; nothing is interrupted."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType


class StopRequest:
    """Call it to learn why to stop, or nothing.

    Args:
        deadline_seconds: from now on; None for no deadline.
        asked: says why somebody else wants the work to stop, or nothing.
    """

    def __init__(self, deadline_seconds: float | None = None, asked: Callable[[], str | None] = lambda: None) -> None:
        self._reason: str | None = None
        self._asked = asked
        self._deadline = None if deadline_seconds is None else time.monotonic() + deadline_seconds

    def __call__(self) -> str | None:
        """The reason to stop, if there is one; the first one stays."""
        self._reason = self._reason or self._asked()
        if self._reason is None and self._deadline is not None and time.monotonic() > self._deadline:
            self._reason = "the job's deadline has passed"
        return self._reason

    def listen(self) -> None:
        """From now on SIGTERM and SIGINT ask to stop."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._reason = f"{signal.Signals(number).name} was received"
