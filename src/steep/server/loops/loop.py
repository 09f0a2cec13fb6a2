"""A loop: work that is done again and again, by one replica at a time. A wrong turn is logged, and the next one comes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from steep.server.bell import Bell
from steep.server.service import Service
from steep.spec.errors import ServerUnavailable

log = logging.getLogger(__name__)

AWAY_SECONDS = 1.0
"""Between two tries while the database does not answer."""

RELEASE_SECONDS = 5.0
"""How long a loop may take to end its turn when the server ends."""


class Loop:
    """A thread that works in turns, each time somebody rings and at least every so often.

    Args:
        name: of the loop; its lease goes by it.
        service: whose it is.
        turn: one turn.
        every_seconds: the longest pause between two turns.
        bell: what else wakes it; None: nothing does.
        rest: after a turn it rests for so many times as long as the turn took, whoever rings, so that a long queue leaves most
            of the processor to those who ask.
        alone: one replica at a time acts; otherwise each of them does.
    """

    def __init__(
        self,
        name: str,
        service: Service,
        turn: Callable[[], None],
        *,
        every_seconds: float,
        bell: Bell | None = None,
        rest: float = 0.0,
        alone: bool = True,
    ) -> None:
        self.name = name
        self._service = service
        self._turn = turn
        self._every_seconds = every_seconds
        self._bell = bell or Bell()
        self._rest = rest
        self._alone = alone
        self._ending = threading.Event()
        self._renew_at = 0.0
        self._is_away = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Take no further turn. Returns at once; `join` waits."""
        self._ending.set()
        self._bell.ring()

    def join(self) -> None:
        """Wait for the end of the turn, and let other replicas act."""
        self._thread.join(RELEASE_SECONDS)

    def _work(self) -> None:
        heard = self._bell.strokes
        while not self._ending.is_set():
            begun = time.monotonic()
            self._take_turn()
            took = time.monotonic() - begun
            if self._is_away:
                self._ending.wait(AWAY_SECONDS)
            elif not self._ending.wait(min(self._rest * took, self._every_seconds)):
                heard = self._bell.wait(heard, self._every_seconds)
        if self._alone and not self._is_away:
            self._guarded(
                lambda: self._service.store.loops.release(self.name, self._service.replica, self._service.now())
            )

    def _take_turn(self) -> None:
        def turn() -> None:
            if not self._alone or self._may_act():
                self._turn()

        self._guarded(turn)

    def _may_act(self) -> bool:
        """The lease is renewed when half of it is over, so that short turns cost no writing."""
        lease = self._service.settings.patience.loop
        if time.monotonic() < self._renew_at:
            return True
        begun = time.monotonic()
        service = self._service
        mine = service.store.loops.acquire(self.name, service.replica, service.now(), lease_seconds=lease)
        self._renew_at = begun + lease / 2 if mine else 0.0
        return mine

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ServerUnavailable as error:
            self._away(str(error))
        except Exception:  # one turn that goes wrong must not be the last one
            log.exception("%s: a turn went wrong", self.name)
        else:
            self._away(None)

    def _away(self, why: str | None) -> None:
        """Say once that the database is away, and once that it is back."""
        if (why is not None) is not self._is_away:
            log.warning("%s %s", self.name, "goes on" if why is None else f"waits: {why}")
        self._is_away = why is not None
