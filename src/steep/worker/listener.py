"""The worker's ear: a thread that waits at the server for an order.

Orders come with the answers to reports too. A worker that has nothing to report would hear of one at its next heartbeat
only, a third of its lease later; here the server answers as soon as there is one. What is heard is all that matters: while
the server cannot be reached the thread tries again, ever more seldom, and the reports' answers still tell.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from steep.artifacts.rundir import RunDirectory
from steep.spec.api.attempts import OrderAnswer
from steep.spec.errors import Fenced, InvalidInput, SteepError
from steep.worker.attempt import Attempt
from steep.worker.line import connect, words_of

if TYPE_CHECKING:
    from steep.client.wire import Wire

WAIT_SECONDS = 25.0
"""How long the server may keep a question: less than what is between here and there lets a connection be silent."""
TIMEOUT_SECONDS = WAIT_SECONDS + 15.0
FIRST_SECONDS = 0.5
"""The first report is more urgent: the server waits for it to call the attempt running."""
LONGEST_PAUSE_SECONDS = 15.0
REFUSED_SECONDS = 60.0
"""An older server does not know the question."""


class Listener:
    """The thread. See the head of this file.

    Args:
        run: that is worked on.
        attempt: with a server and a token.
        leave: called when the attempt is fenced; should not return.
    """

    def __init__(self, run: RunDirectory, attempt: Attempt, leave: Callable[[str], None]) -> None:
        self._run = run
        self._attempt = attempt
        self._leave = leave
        self._asked: str | None = None
        self._ending = threading.Event()
        # not to be waited for at exit: it may be in the middle of a question
        self._thread = threading.Thread(target=self._work, name="listener", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def asked(self) -> str | None:
        """Why the server wants the worker to save and end, or nothing."""
        return self._asked

    def close(self) -> None:
        """Listen no more. Returns at once."""
        self._ending.set()

    def _work(self) -> None:
        from steep.client.blocking import finish

        self._ending.wait(FIRST_SECONDS)
        wire = connect(self._attempt, TIMEOUT_SECONDS)
        try:
            self._listen(wire)
        finally:
            finish(wire.close())

    def _listen(self, wire: Wire) -> None:
        from steep.client.backoff import Backoff

        backoff = Backoff(LONGEST_PAUSE_SECONDS)
        while self._asked is None and not self._ending.is_set():
            try:
                order = self._ask(wire)
                self._asked = words_of(order.directive, order.directive_detail)
                backoff.reset()
            except Fenced as fenced:
                if not self._ending.is_set():  # a worker that ends learns it from the answer to its last report
                    self._run.fence.close(fenced.what)
                    self._leave(fenced.what)
                return
            except InvalidInput:
                self._ending.wait(REFUSED_SECONDS)
            except SteepError:
                self._ending.wait(backoff.pause_seconds())  # the sender says once that the server is away
            except Exception as error:  # noqa: BLE001 - whatever happens here, the worker goes on
                print("orders are heard with the answers to reports alone from now on", file=sys.stderr)
                traceback.print_exception(error)
                return

    def _ask(self, wire: Wire) -> OrderAnswer:
        from steep.client.blocking import finish
        from steep.client.requests import at, get

        path = at("attempts", self._attempt.job, self._attempt.number, "orders")
        return finish(wire.call(get(path, wait_seconds=WAIT_SECONDS), OrderAnswer))
