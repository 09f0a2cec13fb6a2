"""What wakes those who wait: loops when there is work, listeners when there is news."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

NEWS_SECONDS = 0.3
"""Other replicas write events too, so the store is asked this often, by one task for all who listen here."""


class Bell:
    """Wakes threads. Who has not heard it yet hears it when next he listens, so none of its strokes is missed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._strokes = 0

    def ring(self) -> None:
        """There is something to do."""
        with self._condition:
            self._strokes += 1
            self._condition.notify_all()

    @property
    def strokes(self) -> int:
        """How often it was rung."""
        return self._strokes

    def wait(self, heard: int, seconds: float) -> int:
        """Wait until it has been rung more often than was heard, or for some time. Returns how often it was rung."""
        with self._condition:
            self._condition.wait_for(lambda: self._strokes > heard, seconds)
            return self._strokes


class News:
    """Wakes listeners of events, in the event loop. One of them asks the store for all.

    Args:
        last_id: asks for the number of the newest event.
    """

    def __init__(self, last_id: Callable[[], int]) -> None:
        self._last_id = last_id
        self._asking: asyncio.Task[int] | None = None
        self.is_over = False

    async def beyond(self, known: int, seconds: float) -> int:
        """Wait until there is an event after one that is known, or for some time. Returns the number of the newest."""
        newest, waited = known, 0.0
        while newest <= known and waited < seconds and not self.is_over:
            await asyncio.sleep(NEWS_SECONDS)
            waited += NEWS_SECONDS
            newest = await self._ask()
        return newest

    def end(self) -> None:
        """Let listeners go: the server ends. They come again, to whoever serves then."""
        self.is_over = True

    async def _ask(self) -> int:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._last_id))
        return await asyncio.shield(self._asking)
