"""Orders on their way to workers: who waits for one hears of it within a moment, whichever replica it was given to.

Any number of workers wait here at the same time. One task asks the store for all of them, and only while somebody waits, so
that an idle worker costs the database nothing but its share of one short query.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from steep.server.store.orders import AttemptName, fenced
from steep.spec.api.attempts import OrderAnswer

ASK_SECONDS = 0.5
"""Orders are given at other replicas too, so the store is asked this often."""

Standing = Mapping[AttemptName, OrderAnswer | None]


class OrderDesk:
    """Where workers wait, in the event loop.

    Args:
        standing: asks the store what is wanted of all attempts that should stop; None: the attempt is fenced.
    """

    def __init__(self, standing: Callable[[], Standing]) -> None:
        self._standing = standing
        self._asking: asyncio.Task[Standing] | None = None
        self._asked_at = 0.0
        self._is_over = False

    async def wait_for(self, attempt: AttemptName, seconds: float) -> OrderAnswer:
        """The order to an attempt, as soon as there is one; after some time, that there is none.

        Raises:
            Fenced: the attempt is fenced.
            ServerUnavailable: the database does not answer.
        """
        until = time.monotonic() + seconds
        while not self._is_over and time.monotonic() < until:
            await asyncio.sleep(min(ASK_SECONDS, max(until - time.monotonic(), 0.0)))
            standing = await self._ask()
            if attempt in standing:
                order = standing[attempt]
                if order is None:
                    raise fenced(*attempt)
                return order
        return OrderAnswer()

    def end(self) -> None:
        """Let all go: the server ends. They come again, to whoever serves then."""
        self._is_over = True

    async def _ask(self) -> Standing:
        """What the store says, or said a moment ago to another who waits."""
        fresh = time.monotonic() - self._asked_at < ASK_SECONDS / 2
        if self._asking is None or (self._asking.done() and (not fresh or self._asking.exception() is not None)):
            self._asking = asyncio.create_task(asyncio.to_thread(self._standing))
            self._asked_at = time.monotonic()
        return await asyncio.shield(self._asking)
