"""Places of waiting jobs in the queue, worked out once for all who ask within a moment."""

from __future__ import annotations

import threading
from collections.abc import Sequence, Set
from typing import TypeVar

from steep.server.store.queue import Queue
from steep.spec.api import JobView
from steep.spec.states import State

View = TypeVar("View", bound=JobView)

FRESH_SECONDS = 2.0
NUM_CHEAP = 500  # so many places are worked out in a few milliseconds


class QueuePlaces:
    """May be used from any thread."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._places: dict[str, int] = {}
        self._known_until = 0.0

    def put(self, views: Sequence[View], now: float) -> tuple[View, ...]:
        """The same jobs; those that wait with their place."""
        waiting = [view for view in views if view.standing.state is State.QUEUED and not view.standing.is_paused]
        if not waiting:
            return tuple(views)
        ids = {view.id for view in waiting}
        places = self._at(now, ids)
        return tuple(
            view.model_copy(update={"position": places.get(view.id)}) if view.id in ids else view for view in views
        )

    def _at(self, now: float, wanted: Set[str]) -> dict[str, int]:
        with self._lock:
            is_fresh = 0 <= self._known_until - now <= FRESH_SECONDS
            # One that came since is looked for at once, unless a burst of them would then read a long queue each time.
            is_behind = len(self._places) < NUM_CHEAP and not wanted <= self._places.keys()
            if not is_fresh or is_behind:
                self._places = self._queue.positions(now)
                self._known_until = now + FRESH_SECONDS
            return self._places
