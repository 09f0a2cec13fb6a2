"""Where workers' reports are taken in: all that wait at a moment, in one transaction, by one thread.

Hundreds of workers report every few seconds. A transaction and a turn among threads for each of them would cost more than
what they say; and while something else is written, those that come meanwhile go together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from steep.server.store.attempts import Told
from steep.spec.api.attempts import ReportsAnswer

MOST_AT_ONCE = 64
"""Others who write wait for one transaction, so it is kept short."""

END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    told: Told
    answer: asyncio.Future[ReportsAnswer]


class Intake:
    """Asked from the event loop; its thread begins when first it is.

    Args:
        record: takes in what several workers say; returns, for each of them, the answer or what was raised for it.
    """

    def __init__(self, record: Callable[[Sequence[Told]], Sequence[ReportsAnswer | Exception]]) -> None:
        self._record = record
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def take(self, told: Told) -> ReportsAnswer:
        """Take in what one worker says.

        Raises:
            Fenced: its token opens nothing (any more). Nothing was written.
            ServerUnavailable: the database does not answer.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="intake", daemon=True)
            self._thread.start()
        answer: asyncio.Future[ReportsAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.put(_Waiting(told, answer))
        return await answer

    def end(self) -> None:
        """Take in what waits, and nothing more. A database that does not answer is not waited for: it will all be sent again."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(END_SECONDS)

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            waiting = [first, *self._more()]
            try:
                answers = self._record([one.told for one in waiting])
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait for it
                answers = [error] * len(waiting)
            _tell(waiting, answers)

    def _more(self) -> list[_Waiting]:
        """Those who wait too."""
        found: list[_Waiting] = []
        while len(found) < MOST_AT_ONCE - 1:
            try:
                one = self._waiting.get_nowait()
            except Empty:
                break
            if one is None:
                self._waiting.put(None)  # the end comes after these
                break
            found.append(one)
        return found


def _tell(waiting: Sequence[_Waiting], answers: Sequence[ReportsAnswer | Exception]) -> None:
    """Answer all of them in one turn of their event loop; one that has ended has nobody left who listens."""

    def tell() -> None:
        for one, answer in zip(waiting, answers, strict=True):
            if one.answer.done():  # its client has gone
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)

    loop = waiting[0].answer.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)
